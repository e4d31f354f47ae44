/**
 * @file The reward service process: configuration, worker, queue, service, listen, drain.
 */
import { z } from "zod";
import { duration } from "../../lib/config/index.js";
import { serverInfo } from "../../lib/rpc/server-info.js";
import { modelFields, parseServiceArgs, serviceHelp, serviceSchema } from "../../lib/rpc/service-config.js";
import { runService } from "../../lib/rpc/service-process.js";
import { RewardModel } from "./backend.js";
import { InvalidLabelError } from "./errors.js";
import { acceptedLabels, findLabel } from "./labels.js";
import { LIMITS, rewardService } from "./service.js";

const schema = serviceSchema({
  ...modelFields,
  label: z.string().optional().describe("label whose score is the reward: name or index; default: the last"),
  function: z
    .enum(["softmax", "sigmoid", "none"])
    .optional()
    .describe("how logits become scores; default: the model's own rule"),
  batchInvariant: z
    .boolean()
    .default(false)
    .describe(
      "same numbers to the bit whatever else is asked: one thread a run, --threads runs at once; cpu",
    ),
  batchItems: z.int().min(1).default(256).describe("most texts of one batch"),
  batchTokens: z.int().min(1).default(8192).describe("most tokens of one batch"),
  batchDelay: duration().default(2).describe("how long a text waits for others to be computed with"),
  queueItems: z.int().min(1).default(2048).describe("most texts that wait"),
  queueTokens: z.int().min(1).default(262_144).describe("most tokens that wait"),
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
    process.stdout.write(serviceHelp("reward", schema, "--model ./reward-model --listen 127.0.0.1:50052"));
    return;
  }
  const configure = () => parseServiceArgs("reward", argv, schema);
  await runService("reward", configure, (config, { log, server }) => {
    const {
      model,
      device,
      threads,
      batchInvariant,
      label,
      name,
      batchItems,
      batchTokens,
      batchDelay,
      queueItems,
      queueTokens,
    } = config;
    const queue = { batchItems, batchTokens, batchDelayMs: batchDelay, queueItems, queueTokens };
    const backend = new RewardModel({ model, device, threads, batchInvariant }, queue, log);
    const service = rewardService(backend, { label, function: config.function, name }, (facts) =>
      serverInfo({
        device: facts.device,
        engine: facts.engine,
        limits: server().limits,
        serviceLimits: {
          max_items: LIMITS.maxItems,
          max_text_bytes: LIMITS.maxTextBytes,
          max_tokens: facts.maxTokens,
          max_batch_items: batchItems,
          max_queue_items: queueItems,
          max_queue_tokens: queueTokens,
        },
        instance: config.instance,
      }),
    );
    return {
      services: [service],
      load: async () => {
        const { labels } = await backend.load();
        if (label !== undefined && findLabel(labels, label) === undefined) {
          throw new InvalidLabelError(label, acceptedLabels(labels));
        }
      },
      watch: (serving) => backend.watch(serving),
      close: () => backend.close(),
    };
  });
}
