/**
 * @file The scorers of a run as the trainer talks to them: one client per group of servers, calls cut to what the servers take.
 * In: groups of the run file. Out: scores in order; the run's own rule retries what fails.
 */
import { readFileSync } from "node:fs";
import { BertScoreService } from "../../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { RewardService, ScoreFunction } from "../../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import type { ServerInfo } from "../../../lib/api/gen/rlhf/types/v1/types_pb.js";
import {
  type CallOptions,
  type Client,
  type ClientOptions,
  createClient,
  RpcError,
} from "../../../lib/rpc/index.js";
import type { Connection } from "../run-config.js";
import {
  type ClassifierRequest,
  ScoreRefusal,
  type ScorerGroup,
  type Scorers,
  type SimilarityRequest,
} from "../scoring/terms.js";

/** Items of one call to servers that publish no limit. */
const USUAL_ITEMS = 256;
/** How long GetInfo may take, in milliseconds. */
const INFO_MS = 10_000;

const FUNCTIONS = {
  logit: ScoreFunction.NONE,
  softmax: ScoreFunction.SOFTMAX,
  sigmoid: ScoreFunction.SIGMOID,
} as const;

/**
 * Client options for servers of a run file. The token file is read at each call, so that a token can be renewed. `deadlineMs` is that of
 * one call; none outlives `deadline` (epoch milliseconds).
 */
export function connectionOptions(
  { tokenFile, tls }: Connection,
  deadlineMs: number,
  deadline?: number,
): ClientOptions {
  return {
    deadlineMs,
    deadline,
    ...(tls ? { tls: { caFile: tls.ca, certFile: tls.cert, keyFile: tls.key } } : {}),
    ...(tokenFile ? { token: () => readFileSync(tokenFile, "utf8").trim() } : {}),
    retry: false, // the run's own rule retries, and says so
  };
}

/** Clients of a run's reward and BERTScore servers. */
export class ScorerClients implements Scorers {
  readonly #scoreMs: number;
  readonly #deadline: number | undefined;
  readonly #reward = new Map<string, Client<(typeof RewardService)["method"]>>();
  readonly #bertscore = new Map<string, Client<(typeof BertScoreService)["method"]>>();
  /** Most items of one call, by client. */
  readonly #most = new WeakMap<object, number>();

  /** `scoreMs` is the deadline of one call in milliseconds; none outlives `deadline` (epoch milliseconds). */
  constructor(scoreMs: number, deadline?: number) {
    this.#scoreMs = scoreMs;
    this.#deadline = deadline;
  }

  /** Client of these reward servers; closed with the others. */
  rewards(group: ScorerGroup): Client<(typeof RewardService)["method"]> {
    return this.#clientOf(this.#reward, group, (options) =>
      createClient(RewardService, group.addresses, options),
    );
  }

  /** Client of these BERTScore servers; closed with the others. */
  judges(group: ScorerGroup): Client<(typeof BertScoreService)["method"]> {
    return this.#clientOf(this.#bertscore, group, (options) =>
      createClient(BertScoreService, group.addresses, options),
    );
  }

  /** Rewards of texts by a reward server; see Scorers. */
  async classifier(group: ScorerGroup, request: ClassifierRequest, signal: AbortSignal): Promise<number[]> {
    const client = this.rewards(group);
    const { label, truncate } = request;
    const score = async (texts: readonly string[]): Promise<number[]> => {
      const { results } = await client.score(
        {
          texts: [...texts],
          function: FUNCTIONS[request.function],
          truncate,
          ...(label === undefined ? {} : { label }),
        },
        this.#call(signal),
      );
      return results.map(({ reward }) => reward ?? Number.NaN);
    };
    return inParts("texts", request.texts, await this.#mostOf(client, signal), score);
  }

  /** Precision, recall or F1 of pairs by a BERTScore server; see Scorers. */
  async bertscore(group: ScorerGroup, request: SimilarityRequest, signal: AbortSignal): Promise<number[]> {
    const scores = await this.similarities(group, request, signal);
    return scores.map((score) => score[request.measure]);
  }

  /** Precision, recall and F1 of pairs. */
  async similarities(
    group: ScorerGroup,
    { pairs, layer, idf, rescale }: Omit<SimilarityRequest, "measure">,
    signal: AbortSignal,
  ): Promise<{ precision: number; recall: number; f1: number }[]> {
    const client = this.judges(group);
    const most = await this.#mostOf(client, signal);
    // frequencies are those of all references, however the call is cut
    const idfCorpus = idf && pairs.length > most ? pairs.map(({ reference }) => reference) : [];
    const score = async (part: typeof pairs) => {
      const { results } = await client.score(
        {
          pairs: part.map(({ candidate, reference }) => ({ candidate, references: [reference] })),
          options: { idf, rescale, idfCorpus, ...(layer === undefined ? {} : { layer }) },
        },
        this.#call(signal),
      );
      return results.map(({ score: found }) => ({
        precision: found?.precision ?? Number.NaN,
        recall: found?.recall ?? Number.NaN,
        f1: found?.f1 ?? Number.NaN,
      }));
    };
    return inParts("pairs", pairs, most, score);
  }

  /** Closes every channel. */
  close(): void {
    for (const client of [...this.#reward.values(), ...this.#bertscore.values()]) client.close();
  }

  #call(signal: AbortSignal): CallOptions {
    return { signal, deadlineMs: this.#scoreMs };
  }

  #clientOf<C>(clients: Map<string, C>, group: ScorerGroup, create: (options: ClientOptions) => C): C {
    const key = JSON.stringify([group.addresses, group.tokenFile, group.tls]);
    const client = clients.get(key) ?? create(connectionOptions(group, this.#scoreMs, this.#deadline));
    clients.set(key, client);
    return client;
  }

  /** Most items of one call that servers take, as their GetInfo says. Asked until it is known; a server may have no GetInfo. */
  async #mostOf(
    client: { getInfo(request: object, options: CallOptions): Promise<{ server?: ServerInfo | undefined }> },
    signal: AbortSignal,
  ): Promise<number> {
    const known = this.#most.get(client);
    if (known !== undefined) return known;
    try {
      const { server } = await client.getInfo({}, { signal, deadlineMs: Math.min(INFO_MS, this.#scoreMs) });
      const limit = Number(server?.limits.max_items ?? 0n);
      this.#most.set(client, limit > 0 ? limit : USUAL_ITEMS);
    } catch (error) {
      // a server that is away says so to the call that follows, which is retried by the run's rule
      if (error instanceof RpcError && error.status === "UNIMPLEMENTED") this.#most.set(client, USUAL_ITEMS);
    }
    return this.#most.get(client) ?? USUAL_ITEMS;
  }
}

/** True where a failed scoring call may succeed if it is made again; `mostMs` is the longest that is waited for a server. */
export function mayScoreAgain(error: Error, mostMs: number): boolean {
  if (!(error instanceof RpcError)) return true;
  if (error.pushbackMs !== undefined && error.pushbackMs < 0) return false;
  return !FINAL.has(error.status) && (error.retryDelayMs ?? 0) <= mostMs;
}

/** Statuses that say that the same call would be answered the same way. */
const FINAL = new Set([
  "INVALID_ARGUMENT",
  "NOT_FOUND",
  "UNIMPLEMENTED",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "OUT_OF_RANGE",
]);

/**
 * Scores items in calls of at most `most`, one after the other. A call whose error names items (`texts[3]`) throws a ScoreRefusal
 * with their places among all, so that the others can be scored. Throws Error where a call gives another number of results than items.
 */
async function inParts<T, R>(
  list: string,
  items: readonly T[],
  most: number,
  score: (part: readonly T[]) => Promise<R[]>,
): Promise<R[]> {
  const results: R[] = [];
  for (let from = 0; from < items.length; from += most) {
    const part = items.slice(from, from + most);
    const scored = await score(part).catch((error: unknown) => {
      throw refusal(list, from, error) ?? error;
    });
    if (scored.length !== part.length) {
      throw new Error(`asked for ${part.length} scores, got ${scored.length}`);
    }
    results.push(...scored);
  }
  return results;
}

/** A ScoreRefusal of an error whose violations name items; undefined for another error. */
function refusal(list: string, from: number, error: unknown): ScoreRefusal | undefined {
  if (!(error instanceof RpcError) || error.status !== "INVALID_ARGUMENT") return undefined;
  const refused = new Map<number, string>();
  for (const { field, description } of error.violations) {
    const index = new RegExp(`^${list}\\[(\\d+)\\]`).exec(field)?.[1];
    if (index !== undefined) refused.set(from + Number(index), description);
  }
  return refused.size > 0 ? new ScoreRefusal(refused) : undefined;
}
