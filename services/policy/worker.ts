/**
 * @file The model worker of the policy service: a child process of `main.ts` that holds tokenizer, model, caches and
 * weights, generates and scores, and follows the bus.
 */

import type { WorkerCall } from "../../lib/rpc/serve-worker.js";
import { serveWorker, type WorkerControl } from "../../lib/rpc/serve-worker.js";
import { startTelemetry, type Telemetry } from "../../lib/telemetry/index.js";
import { histogram } from "../../lib/telemetry/instruments.js";
import { loadTokenizer } from "../../lib/tokenizer/index.js";
import { followBus } from "./bus-following.js";
import { ModelMismatchError } from "./errors.js";
import { type GenerateParts, generate } from "./generate-handler.js";
import { Decoder } from "./generation/decoder.js";
import { PolicyModel } from "./model/policy-model.js";
import { WeightStore } from "./model/weight-store.js";
import { WeightsManager } from "./model/weights-manager.js";
import type {
  GenerateCall,
  LoadCall,
  LogProbsCall,
  PolicyFacts,
  RollbackCall,
  WorkerConfig,
  WorkerStats,
} from "./protocol.js";
import { parseGenerationDefaults } from "./sampling/generation-config.js";
import { Scorer } from "./scoring/scorer.js";
import { createTokenBytes } from "./text-pieces.js";

/** The worker's methods; the front process types its calls by them. */
export type PolicyWorker = ReturnType<typeof methods>;

function methods(parts: GenerateParts, scorer: Scorer, weights: WeightsManager, telemetry: Telemetry) {
  return {
    generate: (call: GenerateCall, context: WorkerCall) => generate(parts, call, context),
    logprobs: (call: LogProbsCall, { signal, deadline }: WorkerCall) =>
      scorer.score({ ...call, signal, deadline }),
    load: (call: LoadCall) => weights.load(call),
    rollback: ({ version }: RollbackCall) => weights.rollback(version),
    /** Sends what telemetry still holds; the process is about to be ended. */
    flush: (_: object) => telemetry.shutdown(),
  };
}

/** Interval of the worker's word on what it does, in milliseconds; nothing is said while nothing changes. */
const STATS_MS = 200;

const runs = histogram("rlhf.model.run.duration");
const batches = histogram("rlhf.batch.size");

async function load(config: WorkerConfig, worker: WorkerControl) {
  const { instance } = config.telemetry;
  const telemetry = startTelemetry({
    service: "policy",
    ...config.telemetry,
    instance: `${instance}/worker`,
  });
  const { log } = telemetry;
  const tokenizer = await loadTokenizer(config.model);
  const { model, checkpoint } = await PolicyModel.load({
    model: config.model,
    device: config.device,
    ...(config.threads !== undefined && { intraOpThreads: config.threads }),
  });
  const bounds = { vocabSize: model.vocabSize, maxTokens: model.facts.maxTokens };
  if (tokenizer.vocabSize > bounds.vocabSize) {
    throw new ModelMismatchError(
      `the tokenizer has ${tokenizer.vocabSize} tokens, config.json: vocab_size allows ${bounds.vocabSize}`,
    );
  }
  const { defaults, warnings } = parseGenerationDefaults(checkpoint.generationConfig, {
    eosTokenId: model.config.eosTokenIds,
    padTokenId: model.config.padTokenId,
    bosTokenId: model.config.bosTokenId,
  });
  for (const warning of warnings) log.warn(warning);

  const store = new WeightStore({ keepVersions: config.keepVersions, maxHeld: config.maxHeld });
  const { weightVersion: version, digest, tensors } = checkpoint;
  store.swap({ version, digest, tensors: await model.upload(tensors) });

  const tokenBytes = createTokenBytes(tokenizer);
  const geometry = model.geometry();
  const decoder = new Decoder(model.engine, model, store, geometry, config.decoder, tokenBytes, {
    ran: (phase, ms, rows) => {
      runs.record(ms / 1000, { "rlhf.phase": phase });
      if (phase === "decode") batches.record(rows, { "rlhf.queue": "generate" });
    },
    failed: (err) => log.error({ err }, "a run of the model failed"),
  });
  const scorer = new Scorer(model, store, config.scorer, (ms) =>
    runs.record(ms / 1000, { "rlhf.phase": "logprobs" }),
  );
  const weights = new WeightsManager(model, store, config.pinned, (status) =>
    worker.event("weights", status),
  );

  if (config.resume.loaded) await weights.load(config.resume.loaded);
  if (config.bus && !config.pinned) {
    await followBus(config.bus, { model, store, weights, instance, log });
  }
  await reached(store, config.resume.version);
  reportStats(worker, () => ({
    ...decoder.stats(),
    scoring: scorer.waiting,
    engine: { liveTensors: model.engine.stats().liveTensors, bytes: model.engine.stats().bytes },
  }));
  const info: PolicyFacts = { ...model.facts, defaults, weights: weights.status() };
  return {
    methods: methods({ decoder, tokenizer, tokenBytes, defaults, bounds }, scorer, weights, telemetry),
    info,
  };
}

/** Waits until the weights are at least of this version: a worker that replaces another never serves older ones. */
async function reached(store: WeightStore, version: number): Promise<void> {
  while (store.serving.version < version) await new Promise((resolve) => setTimeout(resolve, 20));
}

function reportStats(worker: WorkerControl, stats: () => WorkerStats): void {
  let last = "";
  setInterval(() => {
    const now = stats();
    const text = JSON.stringify(now);
    if (text === last) return;
    last = text;
    worker.event("stats", now);
  }, STATS_MS).unref();
}

serveWorker({ init: load });
