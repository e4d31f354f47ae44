/**
 * @file The BERTScore service process: configuration, worker, queue, service, listen, drain.
 */
import { basename, resolve } from "node:path";
import { z } from "zod";
import { bytes, duration } from "../../lib/config/index.js";
import { serverInfo } from "../../lib/rpc/server-info.js";
import { modelFields, parseServiceArgs, serviceHelp, serviceSchema } from "../../lib/rpc/service-config.js";
import { runService } from "../../lib/rpc/service-process.js";
import { BertScoreModel } from "./backend.js";
import { resolveDefaults } from "./defaults.js";
import { defaultLayer } from "./layers.js";
import type { EncoderFacts } from "./protocol.js";
import { type BertScoreDefaults, bertScoreService, LIMITS } from "./service.js";

const schema = serviceSchema({
  ...modelFields,
  layer: z
    .int()
    .min(0)
    .optional()
    .describe("layer to compare; default: bert_score's for the model, else the last"),
  lang: z.string().default("en").describe("language of the published baseline"),
  rescaleBaseline: z
    .string()
    .optional()
    .describe("baseline file to rescale with; default: the published one"),
  cacheBytes: bytes()
    .default(256 * 1024 * 1024)
    .describe("embeddings kept between calls"),
  batchInvariant: z
    .boolean()
    .default(false)
    .describe(
      "same numbers to the bit whatever else is asked: one thread a run, --threads runs at once; cpu",
    ),
  batchItems: z.int().min(1).default(256).describe("most pairs of one batch"),
  batchTokens: z.int().min(1).default(16_384).describe("most tokens of one batch"),
  batchDelay: duration().default(2).describe("how long a pair waits for others to be computed with"),
  queueItems: z.int().min(1).default(2048).describe("most pairs that wait"),
  queueTokens: z.int().min(1).default(524_288).describe("most tokens that wait"),
}).superRefine(({ batchInvariant, device }, issues) => {
  if (batchInvariant && device !== "cpu") {
    issues.addIssue({
      code: "custom",
      path: ["batchInvariant"],
      message: `is for --device cpu, not ${device}`,
    });
  }
});

/** Runs the service with command-line flags, without the program's own name. */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--help")) {
    process.stdout.write(
      serviceHelp("bertscore", schema, "--model ./encoder --layer 1 --listen 127.0.0.1:50053"),
    );
    return;
  }
  const configure = () => parseServiceArgs("bertscore", argv, schema);
  await runService("bertscore", configure, (config, { log, server }) => {
    const { model, device, threads, batchInvariant, layer, cacheBytes, queueItems, queueTokens } = config;
    const backend = new BertScoreModel(
      {
        model,
        device,
        threads,
        batchInvariant,
        cacheBytes,
        layer: layer ?? defaultLayer(config.name ?? basename(resolve(model))),
      },
      {
        batchItems: config.batchItems,
        batchTokens: config.batchTokens,
        batchDelayMs: config.batchDelay,
        queueItems,
        queueTokens,
      },
      log,
    );
    let resolved: BertScoreDefaults | undefined;
    const defaults = (facts: EncoderFacts): BertScoreDefaults => {
      resolved ??= resolveDefaults(config, facts);
      return resolved;
    };
    const service = bertScoreService(backend, defaults, (facts) =>
      serverInfo({
        device: facts.device,
        engine: facts.engine,
        limits: server().limits,
        serviceLimits: {
          max_items: LIMITS.maxItems,
          max_references: LIMITS.maxReferences,
          max_total_references: LIMITS.maxTotalReferences,
          max_idf_corpus: LIMITS.maxCorpus,
          max_pair_tokens: LIMITS.maxPairTokens,
          max_text_bytes: LIMITS.maxTextBytes,
          max_tokens: facts.maxTokens,
          max_batch_items: config.batchItems,
          max_queue_items: queueItems,
          max_queue_tokens: queueTokens,
        },
        instance: config.instance,
      }),
    );
    return {
      services: [service],
      limits: { maxReceiveBytes: 16 * 1024 * 1024 }, // several references a pair make long requests
      load: async () => {
        const { layer: chosen, name } = defaults(await backend.load());
        log.info({ model: name, layer: chosen }, "encoder loaded");
      },
      watch: (serving) => backend.watch(serving),
      close: () => backend.close(),
    };
  });
}
