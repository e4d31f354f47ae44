/**
 * @file The servers of a run as the trainer talks to them: one client per policy address (shards are ours to place), one
 * per set of scorers. In: addresses of the run file. Out: typed calls; every reply is checked before it is used.
 */
import { readFileSync } from "node:fs";
import { BertScoreService } from "../../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { FinishReason, PolicyService } from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RewardService, ScoreFunction } from "../../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { type Client, type ClientOptions, createClient, RpcError } from "../../../lib/rpc/index.js";
import { RunFailedError } from "../errors.js";
import type { PromptSample, RolloutSample } from "../rollout/sample.js";
import type { PpoRunConfig } from "../run-config.js";
import {
  type ClassifierRequest,
  ScoreRefusal,
  type Scorers,
  type SimilarityRequest,
} from "../scoring/terms.js";
import { float32Of } from "./tensors.js";

type Generation = PpoRunConfig["generation"];

/** One policy server. */
export interface PolicyMember {
  readonly address: string;
  readonly client: Client<(typeof PolicyService)["method"]>;
}

/** What a policy server says of itself. */
export interface PolicyDescription {
  readonly address: string;
  readonly version: number;
  readonly digest: string;
  readonly vocabSize: number;
  readonly maxTokens: number;
  readonly instance: string;
}

/**
 * Which weight version must answer: exactly this one, or at least this one; both: this one, or where a server holds it no more, a newer
 * one. Neither: whatever is served.
 */
export interface VersionDemand {
  readonly exactly?: number;
  readonly atLeast?: number;
}

/** How to generate: options, which weights must answer, and whether end-of-sequence ends a response. */
export interface GenerateOptions {
  readonly generation: Generation;
  readonly eosStops: boolean;
  readonly demand: VersionDemand;
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
}

/** A sequence of which the ids from `start` on are scored. */
export interface TokenSpan {
  readonly ids: readonly number[];
  readonly start: number;
}

/** What logprobs asks for. */
export interface LogprobsOptions {
  /** Size of the vocabulary, to get whole distributions; undefined for none. */
  readonly full: number | undefined;
  /** Weight version that must answer; default: whatever is served. */
  readonly version?: number;
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
}

/** Scores of one sequence. */
export interface TokenLogprobs {
  readonly logprobs: Float32Array;
  readonly full?: Float32Array;
}

/** Distributions of one reply; messages end at 64 MiB. */
const MAX_DISTRIBUTION_BYTES = 32 << 20;

/** Cuts sequences into consecutive parts whose distributions over `vocabSize` entries take at most `maxBytes`, or into single ones. */
export function cutBySize(
  sequences: readonly TokenSpan[],
  vocabSize: number,
  maxBytes: number,
): TokenSpan[][] {
  const parts: TokenSpan[][] = [];
  let room = 0;
  for (const sequence of sequences) {
    const bytes = (sequence.ids.length - sequence.start) * vocabSize * 4;
    if (parts.length === 0 || bytes > room) {
      parts.push([]);
      room = maxBytes;
    }
    parts.at(-1)?.push(sequence);
    room -= bytes;
  }
  return parts;
}

/** Clients of all servers of a run. */
export class RunServers implements Scorers {
  readonly policies: readonly PolicyMember[];
  readonly references: readonly PolicyMember[];
  readonly #options: ClientOptions;
  readonly #scoreMs: number;
  readonly #reward = new Map<string, Client<(typeof RewardService)["method"]>>();
  readonly #bertscore = new Map<string, Client<(typeof BertScoreService)["method"]>>();

  constructor(config: Pick<PpoRunConfig, "servers" | "timeouts">) {
    const { servers, timeouts } = config;
    const { tokenFile, tls } = servers;
    this.#scoreMs = timeouts.scoreMs;
    this.#options = {
      deadlineMs: timeouts.scoreMs,
      ...(tls ? { tls: { caFile: tls.ca, certFile: tls.cert, keyFile: tls.key } } : {}),
      ...(tokenFile ? { token: () => readFileSync(tokenFile, "utf8").trim() } : {}),
      retry: false, // the run's own rule retries, and says so
    };
    const member = (address: string): PolicyMember => ({
      address,
      client: createClient(PolicyService, address, { ...this.#options, deadlineMs: timeouts.generateMs }),
    });
    this.policies = servers.policy.addresses.map(member);
    this.references = servers.reference.addresses.map(member);
  }

  /** Asks a policy server what it serves. */
  async describe(
    { address, client }: PolicyMember,
    signal: AbortSignal,
    deadlineMs = 10_000,
  ): Promise<PolicyDescription> {
    const { model, server } = await client.getInfo({}, { signal, deadlineMs });
    if (!model?.weights)
      throw new RunFailedError("BAD_REPLY", `policy ${address}: its GetInfo names no weights`);
    return {
      address,
      version: Number(model.weights.version),
      digest: model.weights.digest,
      vocabSize: model.vocabSize,
      maxTokens: model.maxTokens,
      instance: server?.instance ?? "",
    };
  }

  /** Generates one response per prompt on one server, in order. */
  async generate(
    member: PolicyMember,
    prompts: readonly PromptSample[],
    options: GenerateOptions,
  ): Promise<RolloutSample[]> {
    // one request per limit of new tokens, all at once: the server batches them together
    const groups = [...groupBy(prompts, (prompt) => prompt.maxNewTokens)];
    const samples = await Promise.all(
      groups.map(async ([maxNewTokens, group]) => {
        const { exactly, atLeast } = options.demand;
        const asked = (demand: VersionDemand) =>
          this.#generateGroup(member, group, maxNewTokens, { ...options, demand });
        if (exactly === undefined || atLeast === undefined) return asked(options.demand);
        return asked({ exactly }).catch((error: unknown) => {
          if (!(error instanceof RpcError) || error.status !== "FAILED_PRECONDITION") throw error;
          return asked({ atLeast });
        });
      }),
    );
    return samples.flat().sort((a, b) => a.index - b.index);
  }

  /** Generates for prompts that have the same limit of new tokens. */
  async #generateGroup(
    member: PolicyMember,
    group: readonly PromptSample[],
    maxNewTokens: number,
    options: GenerateOptions,
  ): Promise<RolloutSample[]> {
    const { generation, signal, demand } = options;
    const reply = await member.client.generate(
      {
        prompts: group.map((prompt) => ({
          input: { case: "tokens", value: { ids: [...prompt.promptIds] } },
          seed: prompt.seed,
        })),
        options: {
          maxNewTokens,
          minNewTokens: Math.min(generation.minNewTokens, maxNewTokens),
          doSample: generation.doSample,
          temperature: generation.temperature,
          topK: generation.topK,
          topP: generation.topP,
          repetitionPenalty: generation.repetitionPenalty,
          noRepeatNgramSize: generation.noRepeatNgramSize,
          ignoreEos: !options.eosStops,
          numReturnSequences: 1,
        },
        ...(demand.exactly === undefined ? {} : { weightVersion: BigInt(demand.exactly) }),
        ...(demand.atLeast === undefined ? {} : { minWeightVersion: BigInt(demand.atLeast) }),
      },
      { signal, deadlineMs: options.deadlineMs, idempotent: true },
    );
    const { sequences, weights } = reply;
    if (sequences.length !== group.length || !weights) {
      throw new RunFailedError(
        "BAD_REPLY",
        `policy ${member.address}: asked for ${group.length} sequences, got ${sequences.length}`,
      );
    }
    return sequences.map((sequence) => {
      const prompt = group[sequence.promptIndex];
      const ids = sequence.tokens?.ids ?? [];
      if (!prompt || ids.length === 0) {
        throw new RunFailedError(
          "BAD_REPLY",
          `policy ${member.address}: a sequence has no prompt or no tokens`,
        );
      }
      return {
        ...prompt,
        responseIds: ids,
        response: sequence.text,
        samplerLogprobs: float32Of(sequence.logprobs, ids.length, `logprobs of policy ${member.address}`),
        finish:
          sequence.finishReason === FinishReason.EOS
            ? "eos"
            : sequence.finishReason === FinishReason.STOP
              ? "stop"
              : "length",
        weightVersion: Number(weights.version),
        weightDigest: weights.digest,
        server: member.address,
      };
    });
  }

  /**
   * Log-probabilities of the last `ids.length − start` ids of each sequence, [G]; with `full` (the size of the vocabulary), also
   * the whole log-distributions [G, V], in as many calls as their size needs.
   */
  async logprobs(
    member: PolicyMember,
    sequences: readonly TokenSpan[],
    options: LogprobsOptions,
  ): Promise<TokenLogprobs[]> {
    const results: TokenLogprobs[] = [];
    for (const part of cutBySize(sequences, options.full ?? 0, MAX_DISTRIBUTION_BYTES)) {
      results.push(...(await this.#logprobsOf(member, part, options)));
    }
    return results;
  }

  async #logprobsOf(
    member: PolicyMember,
    sequences: readonly TokenSpan[],
    { full, version, signal, deadlineMs }: LogprobsOptions,
  ): Promise<TokenLogprobs[]> {
    const reply = await member.client.logProbs(
      {
        sequences: sequences.map(({ ids, start }) => ({ tokens: { ids: [...ids] }, start })),
        fullDistribution: full !== undefined,
        ...(version === undefined ? {} : { weightVersion: BigInt(version) }),
      },
      { signal, deadlineMs },
    );
    const what = `policy ${member.address}`;
    if (reply.results.length !== sequences.length) {
      throw new RunFailedError(
        "BAD_REPLY",
        `${what}: asked for ${sequences.length} results, got ${reply.results.length}`,
      );
    }
    return reply.results.map((result, i) => {
      const { ids, start } = sequences[i] as TokenSpan;
      const count = ids.length - start;
      const logprobs = float32Of(result.logprobs, count, `logprobs of ${what}`);
      return full === undefined
        ? { logprobs }
        : { logprobs, full: float32Of(result.distribution, count * full, `distribution of ${what}`) };
    });
  }

  /** Client of the reward servers at these addresses; closed with the others. */
  rewards(addresses: readonly string[]): Client<(typeof RewardService)["method"]> {
    return this.#clientOf(this.#reward, addresses, () =>
      createClient(RewardService, addresses, this.#options),
    );
  }

  /** Client of the BERTScore servers at these addresses; closed with the others. */
  judges(addresses: readonly string[]): Client<(typeof BertScoreService)["method"]> {
    return this.#clientOf(this.#bertscore, addresses, () =>
      createClient(BertScoreService, addresses, this.#options),
    );
  }

  /** Rewards of texts by a reward server; see Scorers. */
  async classifier(
    addresses: readonly string[],
    request: ClassifierRequest,
    signal: AbortSignal,
  ): Promise<number[]> {
    const client = this.rewards(addresses);
    const functions = {
      logit: ScoreFunction.NONE,
      softmax: ScoreFunction.SOFTMAX,
      sigmoid: ScoreFunction.SIGMOID,
    } as const;
    const reply = await refusals("texts", () =>
      client.score(
        {
          texts: [...request.texts],
          function: functions[request.function],
          truncate: request.truncate,
          ...(request.label === undefined ? {} : { label: request.label }),
        },
        { signal, deadlineMs: this.#scoreMs },
      ),
    );
    return reply.results.map((result) => result.reward ?? Number.NaN);
  }

  /** Precision, recall or F1 of pairs by a BERTScore server; see Scorers. */
  async bertscore(
    addresses: readonly string[],
    request: SimilarityRequest,
    signal: AbortSignal,
  ): Promise<number[]> {
    const scores = await this.similarities(addresses, request, signal);
    return scores.map((score) => score[request.measure]);
  }

  /** Precision, recall and F1 of pairs. */
  async similarities(
    addresses: readonly string[],
    request: Omit<SimilarityRequest, "measure">,
    signal: AbortSignal,
  ): Promise<{ precision: number; recall: number; f1: number }[]> {
    const client = this.judges(addresses);
    const { layer, idf, rescale } = request;
    const reply = await refusals("pairs", () =>
      client.score(
        {
          pairs: request.pairs.map(({ candidate, reference }) => ({ candidate, references: [reference] })),
          options: { idf, rescale, ...(layer === undefined ? {} : { layer }) },
        },
        { signal, deadlineMs: this.#scoreMs },
      ),
    );
    return reply.results.map(({ score }) => ({
      precision: score?.precision ?? Number.NaN,
      recall: score?.recall ?? Number.NaN,
      f1: score?.f1 ?? Number.NaN,
    }));
  }

  /** Closes every channel. */
  close(): void {
    for (const { client } of [...this.policies, ...this.references]) client.close();
    for (const client of [...this.#reward.values(), ...this.#bertscore.values()]) client.close();
  }

  #clientOf<C>(clients: Map<string, C>, addresses: readonly string[], create: () => C): C {
    const key = addresses.join(",");
    let client = clients.get(key);
    if (!client) {
      client = create();
      clients.set(key, client);
    }
    return client;
  }
}

/** True if another attempt, perhaps elsewhere, may succeed. */
export function mayRetry(error: Error): boolean {
  return (
    error instanceof RpcError &&
    ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION"].includes(
      error.status,
    )
  );
}

/** Makes a ScoreRefusal of an error whose violations name items (`texts[3]`), so that the others can be scored. */
async function refusals<T>(list: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof RpcError) || error.status !== "INVALID_ARGUMENT") throw error;
    const refused = new Map<number, string>();
    for (const { field, description } of error.violations) {
      const index = new RegExp(`^${list}\\[(\\d+)\\]`).exec(field)?.[1];
      if (index !== undefined) refused.set(Number(index), description);
    }
    throw refused.size > 0 ? new ScoreRefusal(refused) : error;
  }
}

function groupBy<T, K>(items: readonly T[], key: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return groups;
}
