/**
 * @file The servers of a run as the trainer talks to them: one client per policy address (shards are ours to place), one
 * per set of scorers. In: addresses of the run file. Out: typed calls; every reply is checked before it is used.
 */
import { FinishReason, PolicyService } from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { type Client, createClient, RpcError } from "../../../lib/rpc/index.js";
import { RunFailedError } from "../errors.js";
import type { PromptSample, RolloutSample } from "../rollout/sample.js";
import type { PpoRunConfig } from "../run-config.js";
import { connectionOptions, ScorerClients } from "./scorer-clients.js";
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
export class RunServers extends ScorerClients {
  readonly policies: readonly PolicyMember[];
  readonly references: readonly PolicyMember[];

  /** Clients for a run, or for one call with a deadline (epoch milliseconds) that none of theirs may outlive. */
  constructor({ servers, timeouts }: Pick<PpoRunConfig, "servers" | "timeouts">, deadline?: number) {
    super(timeouts.scoreMs, deadline);
    const options = connectionOptions(servers, timeouts.generateMs, deadline);
    const member = (address: string): PolicyMember => ({
      address,
      client: createClient(PolicyService, address, options),
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

  /** Closes every channel. */
  override close(): void {
    for (const { client } of [...this.policies, ...this.references]) client.close();
    super.close();
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

function groupBy<T, K>(items: readonly T[], key: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return groups;
}
