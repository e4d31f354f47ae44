/**
 * @file For tests: the policy service on the golden GPT-2, in this process, over a real socket and a real weights bus, with ways to
 * make it misbehave.
 */
import { startServer } from "../../../lib/rpc/index.js";
import { silentLog } from "../../../lib/telemetry/index.js";
import { loadTokenizer } from "../../../lib/tokenizer/index.js";
import { openWeightsBus, WeightsFollower } from "../../../lib/weights/index.js";
import { type GenerateParts, generate } from "../../policy/generate-handler.js";
import { Decoder } from "../../policy/generation/decoder.js";
import { REQUEST_LIMITS } from "../../policy/limits.js";
import { PolicyModel } from "../../policy/model/policy-model.js";
import { WeightStore } from "../../policy/model/weight-store.js";
import { WeightsManager } from "../../policy/model/weights-manager.js";
import { parseGenerationDefaults } from "../../policy/sampling/generation-config.js";
import { Scorer } from "../../policy/scoring/scorer.js";
import { type PolicyBackend, policyService } from "../../policy/service.js";
import { GOLDEN } from "../../policy/testing.js";
import { createTokenBytes } from "../../policy/text-pieces.js";

/** How a server misbehaves; may be changed while it serves. */
export interface PolicyFaults {
  /** Changes each log-probability that Generate reports. `place` is the token's position in the response. */
  sampled?: (logprob: number, place: number) => number;
  /** Changes each log-probability that LogProbs reports. */
  scored?: (logprob: number) => number;
  /** Holds up every Generate. */
  beforeGenerate?: (signal: AbortSignal) => Promise<void>;
  /** Holds up every LogProbs. */
  beforeLogprobs?: () => Promise<void>;
}

/** A policy server of this process. */
export interface TestPolicyServer {
  readonly address: string;
  readonly faults: PolicyFaults;
  close(): Promise<void>;
}

/** Starts a server on the golden model, or on `model`; without a bus its weights are pinned. `listen` may be where another was. */
export async function startPolicyServer({
  bus,
  model: directory = GOLDEN,
  listen = "127.0.0.1:0",
}: {
  bus?: { url: string; run: string };
  model?: string;
  listen?: string;
} = {}): Promise<TestPolicyServer> {
  const log = silentLog();
  const faults: PolicyFaults = {};
  const tokenizer = await loadTokenizer(directory);
  const { model, checkpoint } = await PolicyModel.load({ model: directory, intraOpThreads: 1, spin: false });
  const store = new WeightStore({ keepVersions: 0, maxHeld: 3 });
  const { weightVersion: version, digest, tensors } = checkpoint;
  store.swap({ version, digest, tensors: await model.upload(tensors) });
  const limits = {
    maxRows: 64,
    maxCacheBytes: 2 ** 28,
    maxPromptTokens: 1024,
    maxWaiting: 1024,
    maxWaitingTokens: 2 ** 20,
    batchInvariant: true, // what a dead trainer asked for may still run beside what the next one asks for
  };
  const tokenBytes = createTokenBytes(tokenizer);
  const decoder = new Decoder(model.engine, model, store, model.geometry(), limits, tokenBytes);
  const scorer = new Scorer(model, store, {
    maxTokens: 2048,
    maxLogits: 2 ** 24,
    maxWaiting: 1024,
    maxWaitingTokens: 2 ** 20,
  });
  const weights = new WeightsManager(model, store, bus === undefined, () => {});
  const stopFollowing = bus && (await follow(bus, { version, digest }, model, weights));
  const { defaults } = parseGenerationDefaults(checkpoint.generationConfig, {
    eosTokenId: model.config.eosTokenIds,
    padTokenId: model.config.padTokenId,
    bosTokenId: model.config.bosTokenId,
  });
  const bounds = { vocabSize: model.vocabSize, maxTokens: model.facts.maxTokens };
  const parts: GenerateParts = { decoder, tokenizer, tokenBytes, defaults, bounds };
  const unused = (): never => {
    throw new Error("the trainer does not call this");
  };
  const backend: PolicyBackend = {
    pinned: bus === undefined,
    facts: () => ({ ...model.facts, defaults, weights: weights.status() }),
    generate: async (call, { signal, deadline }) => {
      const ended = signal ?? new AbortController().signal;
      await faults.beforeGenerate?.(ended);
      const reply = await generate(parts, call, {
        signal: ended,
        deadline,
        traceparent: undefined,
        emit: () => {},
      });
      const { sampled = (logprob) => logprob } = faults;
      for (const { logprobs } of reply.sequences) logprobs.set(logprobs.map(sampled));
      return reply;
    },
    generateStream: unused,
    logprobs: async (call, { signal, deadline }) => {
      await faults.beforeLogprobs?.();
      const { results, ...outcome } = await scorer.score({ ...call, signal, deadline });
      const { scored = (logprob) => logprob } = faults;
      return {
        ...outcome,
        results: results.map((scores) => ({ ...scores, logprobs: scores.logprobs.map(scored) })),
      };
    },
    load: unused,
    rollback: unused,
  };
  const service = policyService(backend, { limits: REQUEST_LIMITS, server: () => ({ instance: "test" }) });
  const server = await startServer({ name: "policy", services: [service], listen, log });
  return {
    address: server.address,
    faults,
    close: async () => {
      await stopFollowing?.();
      await server.drain();
      await decoder.close();
      store.close();
      await model.close();
    },
  };
}

/** Takes up what comes over a run's bus; returns what ends that. */
async function follow(
  { url, run }: { url: string; run: string },
  serving: { version: number; digest: string },
  model: PolicyModel,
  weights: WeightsManager,
): Promise<() => Promise<void>> {
  const bus = await openWeightsBus(url, { run, model: "policy" });
  const follower = new WeightsFollower({
    bus,
    instance: `test-${run}`,
    serving,
    expected: model.specs,
    apply: (version, digest, tensors) => weights.apply({ version, digest, tensors }),
  });
  follower.start();
  return async () => {
    await follower.stop();
    await bus.close();
  };
}
