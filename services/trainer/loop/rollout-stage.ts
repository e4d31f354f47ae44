/**
 * @file From prompts to scored samples: shards go to the policy servers, and as each returns, its scores and reference
 * log-probabilities start. In: the prompts of a batch. Out: one scored or failed sample each, in order.
 */
import { RpcError } from "../../../lib/rpc/index.js";
import { context, counter, errorType, withSpan } from "../../../lib/telemetry/index.js";
import { RunFailedError } from "../errors.js";
import { jitteredBackoff, type PoolRule, runShards } from "../rollout/pool.js";
import type { Outcome, PromptSample, RolloutSample } from "../rollout/sample.js";
import type { PpoRunConfig, TermConfig } from "../run-config.js";
import { TermCircuit } from "../scoring/circuit.js";
import { type ComposedReward, composeRewards, type Moments } from "../scoring/compose.js";
import { rawScoreOf, scorersOf, scoreWithRetries, termName } from "../scoring/terms.js";
import { mayScoreAgain } from "../servers/scorer-clients.js";
import { mayRetry, type PolicyMember, type RunServers, type VersionDemand } from "../servers/servers.js";
import type { StallWatch } from "../stalls/stall-watch.js";

/** A sample after all servers have seen it. */
export interface ScoredSample {
  readonly sample: RolloutSample;
  readonly reward: ComposedReward;
  /** Query and response as PPO trains on them. */
  readonly query: readonly number[];
  readonly response: readonly number[];
  readonly refLogprobs: Float32Array;
  readonly refFullLogprobs?: Float32Array | undefined;
}

/** The samples of a batch and where the time went, in seconds. */
export interface ScoredBatch {
  readonly samples: readonly ScoredSample[];
  readonly moments: Record<string, Moments>;
  readonly seconds: { readonly generate: number; readonly score: number; readonly reference: number };
  /** Scores of calls that failed and were tried again. */
  readonly retries: number;
}

/** What the stage needs. */
export interface RolloutStageOptions {
  readonly config: PpoRunConfig;
  readonly servers: RunServers;
  /** The policy servers that take part now. */
  readonly policies: () => readonly PolicyMember[];
  readonly vocabSize: number;
  readonly stalls: StallWatch;
  readonly signal: AbortSignal;
  readonly warn: (message: string, fields?: Readonly<Record<string, string>>) => void;
}

/** A server's log-probabilities of the response of one sample, [G]. */
export interface Probe {
  /** Place of the sample among those that were to be probed. */
  readonly index: number;
  readonly server: string;
  readonly logprobs: Float32Array;
}

/** Samples of a batch that are probed, or one a server where there are more of those. */
const PROBED = 4;

const POLICY_RETRIES = 20; // about a minute and a half: long enough for a server to be restarted and to load its model

const termFailures = counter("rlhf.reward.term.failures");

/** Generation and scoring of batches. */
export class RolloutStage {
  readonly #circuits: ReadonlyMap<TermConfig, TermCircuit>;

  constructor(private readonly options: RolloutStageOptions) {
    const onChange = (state: string, message: string) => options.warn(message, { circuit: state });
    this.#circuits = new Map(
      options.config.rewards.map((term) => [
        term,
        new TermCircuit(termName(term), term.onFailure.circuit, onChange),
      ]),
    );
  }

  /**
   * Generates and scores. `demand` says which weight version must generate. Throws RunFailedError
   * where generation fails for good, or a term whose failures stop the run.
   */
  async run(
    prompts: readonly PromptSample[],
    demand: VersionDemand,
    moments: Readonly<Record<string, Moments>>,
    onGenerated: (share: number) => void,
  ): Promise<ScoredBatch> {
    const { config, policies } = this.options;
    const clock = new SpanClock();
    const batch = context.active(); // scoring overlaps generation: both are children of the batch
    const parts: {
      first: number;
      samples: RolloutSample[];
      scored: ReturnType<RolloutStage["scoreShard"]>;
    }[] = [];
    let generated = 0;
    let retries = 0;
    await clock.time("generate", () =>
      withSpan("rlhf.generate", { attributes: { "rlhf.batch.size": prompts.length } }, async () => {
        const shards = runShards(prompts, policies(), this.#rule("generate"), (member, shard) =>
          this.#generate(member, shard.items, demand),
        );
        for await (const { shard, result } of shards) {
          const scored = context.with(batch, () =>
            this.scoreShard(result, clock, () => {
              retries += 1;
            }),
          );
          scored.catch(() => {}); // awaited below; a failure must not be unheard until then
          parts.push({ first: shard.first, samples: result, scored });
          generated += result.length;
          onGenerated(generated / prompts.length);
        }
      }),
    );
    parts.sort((a, b) => a.first - b.first);
    const samples = parts.flatMap((part) => part.samples);
    const scored = await Promise.all(parts.map((part) => part.scored));
    const outcomes = config.rewards.map((_, t) => scored.flatMap((part) => part.outcomes[t] as Outcome[]));
    const { rewards, moments: after } = composeRewards(config.rewards, samples, outcomes, moments);
    const references = scored.flatMap((part) => part.references);
    return {
      samples: samples.map((sample, i) => {
        const { query, response } = trainedOn(config, sample);
        const reference = references[i] as { logprobs: Float32Array; full?: Float32Array };
        return {
          sample,
          reward: rewards[i] as ComposedReward,
          query,
          response,
          refLogprobs: reference.logprobs,
          refFullLogprobs: reference.full,
        };
      }),
      moments: after,
      seconds: clock.seconds,
      retries,
    };
  }

  #generate(member: PolicyMember, prompts: readonly PromptSample[], demand: VersionDemand) {
    const { config, servers, stalls, signal } = this.options;
    const attributes = { "server.address": member.address, "rlhf.batch.size": prompts.length };
    return withSpan("rlhf.generate.shard", { attributes }, () =>
      stalls.watched({ call: "generate", on: member.address }, () =>
        servers.generate(member, prompts, {
          generation: config.generation,
          eosStops: config.ppo.eosStops,
          demand,
          signal,
          deadlineMs: config.timeouts.generateMs,
        }),
      ),
    );
  }

  /** Scores and reference log-probabilities of one shard, all at once. */
  private async scoreShard(samples: readonly RolloutSample[], clock: SpanClock, onRetry: () => void) {
    const { config } = this.options;
    const [references, ...outcomes] = await Promise.all([
      clock.time("reference", () => withSpan("rlhf.reference", {}, () => this.#references(samples))),
      ...config.rewards.map((term) =>
        clock.time("score", () =>
          withSpan("rlhf.score", { attributes: { "rlhf.reward.term": termName(term) } }, () =>
            this.#scoreTerm(term, samples, onRetry),
          ),
        ),
      ),
    ]);
    return { references, outcomes };
  }

  async #scoreTerm(
    term: TermConfig,
    samples: readonly RolloutSample[],
    onRetry: () => void,
  ): Promise<Outcome[]> {
    const { config, servers, stalls, signal, warn } = this.options;
    const group = scorersOf(term, config);
    const raw = rawScoreOf(term, group, servers, config.ppo);
    const on = [termName(term), ...group.addresses].join(" ");
    const backoff = jitteredBackoff(signal);
    const outcomes = await scoreWithRetries(
      (asked, ended) => stalls.watched({ call: "score", on }, () => raw(asked, ended)),
      samples,
      {
        retries: term.onFailure.retries,
        circuit: this.#circuits.get(term),
        mayRetry: (error) => mayScoreAgain(error, config.timeouts.scoreMs),
        backoff: (attempt, error) => backoff(attempt, error instanceof RpcError ? error.retryDelayMs : 0),
        onLost: (error) => {
          const type = error instanceof RpcError ? error.status : errorType(error);
          termFailures.add(1, { "rlhf.reward.term": termName(term), "error.type": type });
        },
        onFailure: (attempt, error) => {
          onRetry();
          warn(`reward term ${termName(term)}, attempt ${attempt}: ${error.message}`);
        },
      },
      signal,
    );
    const failed = outcomes.find((outcome) => outcome.kind === "failed");
    if (failed?.kind === "failed" && term.onFailure.giveUp === "stop") {
      throw new RunFailedError("REWARD_FAILED", `reward term ${termName(term)}: ${failed.reason}`);
    }
    return outcomes;
  }

  /** Log-probabilities of the responses under the reference policy. */
  async #references(
    samples: readonly RolloutSample[],
  ): Promise<{ logprobs: Float32Array; full?: Float32Array }[]> {
    const { config, servers, stalls, vocabSize, signal } = this.options;
    const sequences = samples.map((sample) => {
      const { query, response } = trainedOn(config, sample);
      return { ids: [...query, ...response], start: query.length };
    });
    const full = config.ppo.klPenalty === "full" ? vocabSize : undefined;
    const results: { logprobs: Float32Array; full?: Float32Array }[] = [];
    const shards = runShards(
      [...sequences.keys()],
      servers.references,
      this.#rule("reference"),
      (member, shard) =>
        stalls.watched({ call: "reference", on: member.address }, () =>
          servers.logprobs(
            member,
            shard.items.map((i) => sequences[i] as { ids: number[]; start: number }),
            { full, signal, deadlineMs: config.timeouts.generateMs },
          ),
        ),
    );
    for await (const { shard, result } of shards) {
      shard.items.forEach((i, at) => {
        results[i] = result[at] as { logprobs: Float32Array };
      });
    }
    return results;
  }

  /**
   * The servers' own log-probabilities of a few of these samples, as if they had just been sampled under `version`: to hold against the
   * learner's, where a batch was sampled by older weights. Every server that takes part answers for at least one.
   */
  async probe(samples: readonly ScoredSample[], version: number): Promise<Probe[]> {
    const { config, servers, policies, stalls, signal } = this.options;
    const members = policies();
    const picked = samples
      .slice(0, Math.max(PROBED, members.length))
      .map(({ sample }, index) => ({ sample, index }));
    const probes: Probe[] = [];
    const shards = runShards(picked, members, this.#rule("agreement"), (member, { items }) =>
      stalls.watched({ call: "agreement", on: member.address }, async () => {
        const spans = items.map(({ sample: { promptIds, responseIds } }) => ({
          ids: [...promptIds, ...responseIds],
          start: promptIds.length,
        }));
        const options = { full: undefined, version, signal, deadlineMs: config.timeouts.generateMs };
        const scored = await servers.logprobs(member, spans, options);
        return items.map(({ index }, i) => ({
          index,
          server: member.address,
          logprobs: (scored[i] as (typeof scored)[number]).logprobs,
        }));
      }),
    );
    for await (const { result } of shards) probes.push(...result);
    return probes;
  }

  #rule(call: string): PoolRule {
    return {
      retries: POLICY_RETRIES,
      backoff: jitteredBackoff(this.options.signal),
      mayRetry,
      onFailure: (address, attempt, error) =>
        this.options.warn(`${call} on ${address}, attempt ${attempt}: ${error.message}`, { address }),
    };
  }
}

/** Query and response that PPO trains on; the notebook's habit repeats the query inside the response. */
function trainedOn(
  config: PpoRunConfig,
  { promptIds, responseIds }: RolloutSample,
): { query: readonly number[]; response: readonly number[] } {
  return {
    query: promptIds,
    response: config.ppo.responseIncludesQuery ? [...promptIds, ...responseIds] : responseIds,
  };
}

/** Wall seconds from the first start to the last end of each kind of work, which may overlap. */
class SpanClock {
  readonly #spans = { generate: [0, 0], score: [0, 0], reference: [0, 0] };

  async time<T>(kind: keyof SpanClock["seconds"], work: () => Promise<T>): Promise<T> {
    const span = this.#spans[kind];
    if (span[0] === 0) span[0] = performance.now();
    try {
      return await work();
    } finally {
      span[1] = performance.now();
    }
  }

  get seconds(): { generate: number; score: number; reference: number } {
    const of = ([from = 0, to = 0]: number[]) => (to - from) / 1000;
    return {
      generate: of(this.#spans.generate),
      score: of(this.#spans.score),
      reference: of(this.#spans.reference),
    };
  }
}
