/**
 * @file For tests: the golden model with weight store and decoder in this process, and short ways to ask it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../lib/config/package-root.js";
import { Decoder, type DecoderLimits, leastCacheBytes } from "./generation/decoder.js";
import type { GenerateJobOptions, GenerateOutcome } from "./generation/generate-job.js";
import { PolicyModel } from "./model/policy-model.js";
import { WeightStore } from "./model/weight-store.js";
import { type RequestedOptions, resolveOptions } from "./sampling/options.js";

/** Folder of the golden GPT-2. */
export const GOLDEN = join(packageRoot(), "test", "golden", "gpt2-tiny");

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

/** Limits that no test meets unless it sets its own. */
const LIMITS: DecoderLimits = {
  maxRows: 64,
  maxCacheBytes: 2 ** 28,
  maxPromptTokens: 1024,
  maxWaiting: 1024,
};

/** The golden model, ready to generate. */
export class TestPolicy {
  private constructor(
    readonly model: PolicyModel,
    readonly store: WeightStore,
    readonly decoder: Decoder,
    readonly weights: ReadonlyMap<string, Float32Array>,
  ) {}

  static async create(limits: Partial<DecoderLimits> = {}, maxHeld?: number): Promise<TestPolicy> {
    const { model, checkpoint } = await PolicyModel.load({ model: GOLDEN, intraOpThreads: 1 });
    const store = new WeightStore({ maxHeld });
    // a copy, because the engine may wrap the arrays it is given
    const kept = new Map([...checkpoint.tensors].map(([name, data]) => [name, data.slice()]));
    store.swap({ version: 0, digest: checkpoint.digest, tensors: model.upload(checkpoint.tensors) });
    const all = { ...LIMITS, ...limits };
    const geometry = model.geometry(all.maxRows);
    const decoder = new Decoder(model.engine, model, store, geometry, all, () => new Uint8Array());
    return new TestPolicy(model, store, decoder, kept);
  }

  /** Swaps in weights of a version: all tensors scaled by a factor that depends on it. */
  swap(version: number): void {
    const scaled = new Map(
      [...this.weights].map(([name, data]) => [name, data.map((x) => x * (1 + version / 50))]),
    );
    this.store.swap({ version, digest: `digest ${version}`, tensors: this.model.upload(scaled) });
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
  return leastCacheBytes(policy.model.geometry(1));
}
