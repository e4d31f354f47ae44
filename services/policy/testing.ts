/**
 * @file For tests: the golden model with weight store and decoder in this process, and short ways to ask it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type JsonObject, saveCheckpoint } from "../../lib/checkpoint/index.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { parameterSpecs } from "../../lib/models/parameters.js";
import { Decoder, type DecoderLimits } from "./generation/decoder.js";
import type { GenerateJobOptions, GenerateOutcome } from "./generation/generate-job.js";
import { cacheBytes } from "./model/kv-cache.js";
import { loadPolicyCheckpoint, PolicyModel, policyConfig } from "./model/policy-model.js";
import { WeightStore } from "./model/weight-store.js";
import { type RequestedOptions, resolveOptions } from "./sampling/options.js";

/** Folder of the golden GPT-2. */
export const GOLDEN = join(packageRoot(), "test", "golden", "gpt2-tiny");

const GOLDEN_CONFIG = JSON.parse(readFileSync(join(GOLDEN, "config.json"), "utf8")) as JsonObject;

/** What transformers says of the golden GPT-2. */
export const EXPECTED = JSON.parse(readFileSync(join(GOLDEN, "expected.json"), "utf8")) as {
  prompts: string[];
  input_ids: number[][];
  token_logprobs: number[][];
  generate: {
    options: Record<string, number | boolean>;
    new_ids: number[][];
    text: string[];
  }[];
};

/** The golden weights, all numbers scaled by a factor that depends on the version; 0 is the golden model itself. */
export async function versionedWeights(
  version: number,
): Promise<Map<string, { shape: readonly number[]; data: Float32Array }>> {
  const specs = parameterSpecs(policyConfig(GOLDEN_CONFIG), "causal-lm");
  const { tensors } = await loadPolicyCheckpoint(GOLDEN);
  return new Map(
    specs.map(({ name, shape }) => [name, { shape, data: scaled(tensors.get(name)!, version) }]),
  );
}

/** A checkpoint directory with `versionedWeights`. */
export async function versionedCheckpoint(
  dir: string,
  version: number,
): Promise<{ dir: string; digest: string }> {
  const tensors = await versionedWeights(version);
  const { digest } = await saveCheckpoint(dir, {
    config: GOLDEN_CONFIG,
    tensors,
    weightVersion: version,
    tokenizerFrom: GOLDEN,
  });
  return { dir, digest };
}

function scaled(data: Float32Array, version: number): Float32Array {
  return data.map((x) => x * (1 + version / 50));
}

/** Limits that no test meets unless it sets its own. */
const LIMITS: DecoderLimits = {
  maxRows: 64,
  maxCacheBytes: 2 ** 28,
  maxPromptTokens: 1024,
  maxWaiting: 1024,
  maxWaitingTokens: 2 ** 24,
};

/** The golden model, ready to generate. */
export class TestPolicy {
  private constructor(
    readonly model: PolicyModel,
    readonly store: WeightStore,
    readonly decoder: Decoder,
    readonly weights: ReadonlyMap<string, Float32Array>,
    /** Errors that failed a lane. */
    readonly failures: unknown[],
  ) {}

  static async create(limits: Partial<DecoderLimits> = {}, maxHeld?: number): Promise<TestPolicy> {
    const { model, checkpoint } = await PolicyModel.load({ model: GOLDEN, intraOpThreads: 1 });
    const store = new WeightStore({ maxHeld });
    // a copy, because the engine may wrap the arrays it is given
    const kept = new Map([...checkpoint.tensors].map(([name, data]) => [name, data.slice()]));
    store.swap({ version: 0, digest: checkpoint.digest, tensors: await model.upload(checkpoint.tensors) });
    const all = { ...LIMITS, ...limits };
    const failures: unknown[] = [];
    let decoder: Decoder;
    try {
      decoder = new Decoder(model.engine, model, store, model.geometry(), all, () => new Uint8Array(), {
        failed: (error) => failures.push(error),
      });
    } catch (error) {
      store.close();
      await model.close();
      throw error;
    }
    return new TestPolicy(model, store, decoder, kept, failures);
  }

  /** Weights of a version: all tensors scaled by a factor that depends on it. Uploads them; what it returns swaps them in. */
  async prepare(version: number): Promise<() => void> {
    const scaledAll = new Map([...this.weights].map(([name, data]) => [name, scaled(data, version)]));
    const tensors = await this.model.upload(scaledAll);
    return () => {
      this.store.swap({ version, digest: `digest ${version}`, tensors });
    };
  }

  /** Swaps in weights of a version. */
  async swap(version: number): Promise<void> {
    (await this.prepare(version))();
  }

  /** Generates from prompts of ids, one sequence each unless the options say more. */
  generate(
    prompts: readonly (readonly number[])[],
    options: RequestedOptions,
    more: Partial<GenerateJobOptions> & { seed?: bigint } = {},
  ): Promise<GenerateOutcome> {
    const { seed = 1n, ...rest } = more;
    const bounds = { vocabSize: this.model.facts.vocabSize, maxTokens: this.model.facts.maxTokens };
    const sequences = prompts.flatMap((promptIds, promptIndex) =>
      Array.from({ length: options.numReturnSequences ?? 1 }, (_, returnIndex) => ({
        promptIndex,
        returnIndex,
        promptIds,
        options: resolveOptions(options, { eosTokenIds: [0] }, promptIds.length, bounds),
        seed,
        ownSeed: false,
      })),
    );
    return this.decoder.generate({ sequences, demand: {}, ...rest });
  }

  async close(): Promise<void> {
    await this.decoder.close();
    this.store.close();
    await this.model.close();
  }
}

/** Generated ids of every sequence. */
export function idsOf({ sequences }: GenerateOutcome): number[][] {
  return sequences.map((sequence) => sequence.generatedIds);
}

/** The least cache that a model with the golden geometry can run with, in bytes. */
export function leastCache(policy: TestPolicy): number {
  const geometry = { ...policy.model.geometry(), maxRows: 1 };
  return cacheBytes(geometry, 1, geometry.maxTime);
}
