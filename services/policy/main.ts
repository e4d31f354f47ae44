/**
 * @file The policy service process: configuration, worker, services, listen, drain.
 */
import { z } from "zod";
import { instanceName, serverInfo } from "../../lib/rpc/server-info.js";
import { modelFields, parseServiceArgs, serviceHelp, serviceSchema } from "../../lib/rpc/service-config.js";
import { runService } from "../../lib/rpc/service-process.js";
import { PolicyHost } from "./backend.js";
import { namedLimits, REQUEST_LIMITS } from "./limits.js";
import type { WorkerConfig } from "./protocol.js";
import { policyService } from "./service.js";
import { weightsService } from "./weights-service.js";

const schema = serviceSchema({
  ...modelFields,
  weights: z.string().optional().describe("bus that brings new weights: nats://HOST:PORT or file:DIR"),
  run: z.string().min(1).optional().describe("run whose weights to follow; needed with --weights"),
  pinned: z.boolean().default(false).describe("never change the weights: a reference policy"),
  keepVersions: z.int().min(0).max(8).default(0).describe("earlier versions kept in memory for rollback"),
  maxRows: z.int().min(1).max(1024).default(64).describe("sequences that are generated at once"),
  maxCacheMib: z.int().min(1).default(4096).describe("memory of all key/value caches together, MiB"),
  maxPromptTokens: z.int().min(1).default(1024).describe("prompt tokens that are read between two steps"),
  batchInvariant: z
    .boolean()
    .default(false)
    .describe(
      "same numbers to the bit whatever else is asked; with --threads 1 also however requests are cut",
    ),
  queueSequences: z.int().min(1).default(1024).describe("most sequences that wait"),
  queueTokens: z
    .int()
    .min(1)
    .default(1_048_576)
    .describe("most tokens that wait to be generated, and to be scored"),
  scoreTokens: z.int().min(1).default(2048).describe("tokens of one scoring run"),
  generateDeadlineMs: z.int().min(1).default(300_000).describe("deadline of a Generate that names none"),
}).superRefine((config, issues) => {
  if (config.weights !== undefined && config.run === undefined && !config.pinned) {
    issues.addIssue({ code: "custom", path: ["run"], message: "--weights needs the name of the run" });
  }
});

/** Floats of logits in one scoring run: 64 MiB. */
const MAX_LOGITS = 16 * 2 ** 20;
/** Sets of weights in memory at most, besides those kept for rollback: the serving one and two that still have requests. */
const MAX_HELD = 3;

/** Runs the service with command-line flags, without the program's own name. */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--help")) {
    process.stdout.write(serviceHelp("policy", schema, "--model ./my-gpt2 --listen 127.0.0.1:50051"));
    return;
  }
  const configure = () => parseServiceArgs("policy", argv, schema);
  await runService("policy", configure, (config, { log, server }) => {
    const instance = config.instance ?? instanceName();
    const worker: WorkerConfig = {
      model: config.model,
      device: config.device,
      ...(config.threads !== undefined && { threads: config.threads }),
      decoder: {
        maxRows: config.maxRows,
        maxCacheBytes: config.maxCacheMib * 2 ** 20,
        maxPromptTokens: config.maxPromptTokens,
        maxWaiting: config.queueSequences,
        maxWaitingTokens: config.queueTokens,
        batchInvariant: config.batchInvariant,
      },
      scorer: {
        maxTokens: config.scoreTokens,
        maxLogits: MAX_LOGITS,
        maxWaiting: config.queueSequences,
        maxWaitingTokens: config.queueTokens,
        batchInvariant: config.batchInvariant,
      },
      keepVersions: config.keepVersions,
      maxHeld: MAX_HELD + config.keepVersions,
      ...(config.weights !== undefined && { bus: { url: config.weights, run: config.run ?? "" } }),
      pinned: config.pinned,
      telemetry: {
        instance,
        ...(config.traceFile !== undefined && { traceFile: config.traceFile }),
        logLevel: config.logLevel,
      },
      resume: { version: 0 },
    };
    const backend = new PolicyHost(worker, log);
    const limits = {
      ...REQUEST_LIMITS,
      maxSequences: Math.min(REQUEST_LIMITS.maxSequences, config.queueSequences),
    };
    const service = policyService(backend, {
      limits,
      ...(config.name !== undefined && { name: config.name }),
      server: (facts) =>
        serverInfo({
          device: facts.device,
          engine: facts.engine,
          limits: server().limits,
          serviceLimits: {
            ...namedLimits(limits),
            max_tokens: facts.maxTokens,
            max_rows: config.maxRows,
            max_queue_sequences: config.queueSequences,
            max_queue_tokens: config.queueTokens,
          },
          instance,
        }),
    });
    return {
      services: [service],
      adminServices: [weightsService(backend)],
      limits: {
        maxReceiveBytes: 16 * 2 ** 20,
        maxSendBytes: 64 * 2 ** 20,
        methodDeadlinesMs: {
          generate: config.generateDeadlineMs,
          generateStream: config.generateDeadlineMs,
          logProbs: config.generateDeadlineMs,
        },
      },
      load: async () => {
        await backend.start();
      },
      watch: (serving) => backend.watch(serving),
      close: () => backend.close(),
    };
  });
}
