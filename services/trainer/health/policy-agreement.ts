/**
 * @file Alarm logprobMismatch: sampler and learner must give the same tokens the same log-probabilities under the same weights,
 * before anything is learned from them. Two implementations of one model agree to rounding. Pure.
 */
import type { ScoredSample } from "../loop/rollout-stage.js";
import { type Finding, figure } from "./alarm.js";
import type { AlarmSettings } from "./settings.js";

/** What a sample must bring along. */
export type Sampled = Pick<ScoredSample["sample"], "samplerLogprobs" | "weightVersion" | "server">;

/** Mean and largest absolute difference over some tokens, nats. */
class Difference {
  #sum = 0;
  #count = 0;
  max = 0;

  add(difference: number): void {
    this.#sum += difference;
    this.#count += 1;
    this.max = Math.max(this.max, difference); // NaN stays NaN
  }

  get mean(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }
}

/** Mean absolute difference of the sampler's and the learner's log-probabilities over all tokens, nats; 0 without tokens. */
export function logprobGap(
  samples: readonly { readonly sample: Pick<Sampled, "samplerLogprobs"> }[],
  learner: readonly Float32Array[],
): number {
  const all = new Difference();
  samples.forEach(({ sample }, i) => {
    sample.samplerLogprobs.forEach((logprob, t) => {
      all.add(Math.abs(logprob - (learner[i]?.[t] as number)));
    });
  });
  return all.mean;
}

/**
 * Compares the samples that the learner's own version wrote. `learner` has the learner's log-probabilities of each response as sampled,
 * [G] each. Returns what is the matter, if the mean difference exceeds the tolerance.
 */
export function policyMismatch(
  { tolerance }: AlarmSettings["logprobMismatch"],
  samples: readonly { readonly sample: Sampled }[],
  learner: readonly Float32Array[],
  version: number,
): Finding | undefined {
  const all = new Difference();
  const first = new Difference(); // the first token of a response depends on the prompt alone
  const servers = new Map<string, Difference>();
  samples.forEach(({ sample }, i) => {
    if (sample.weightVersion !== version) return;
    const own = servers.get(sample.server) ?? new Difference();
    servers.set(sample.server, own);
    sample.samplerLogprobs.forEach((logprob, t) => {
      const difference = Math.abs(logprob - (learner[i]?.[t] as number));
      for (const where of t === 0 ? [all, first, own] : [all, own]) where.add(difference);
    });
  });
  if (all.mean <= tolerance) return undefined;
  const beyond = [...servers].filter(([, { mean }]) => !(mean <= tolerance));
  const named = beyond.map(([address, { mean }]) => `${address} (${figure(mean)})`).join(", ");
  const figures = { gap: all.mean, max: all.max, firstToken: first.mean, tolerance, version, servers: named };
  const says = `under weight version ${version} policy server and learner differ by ${figure(all.mean)} nats per token on average, at most ${figure(all.max)} (tolerance ${tolerance}): ${named}`;
  if (beyond.length < servers.size) {
    return {
      figures,
      says,
      cause: `${beyond.map(([address]) => address).join(", ")} holds other weights than the version it reports; the others agree with the learner.`,
      remedy: "restart it, or take it out of servers.policy.addresses; `rlhf doctor` shows its digest.",
    };
  }
  if (first.mean <= tolerance) {
    return {
      figures,
      says,
      cause:
        "the first token of each response agrees and later ones do not: the server's cache, positions or attention mask are wrong, or it computes in lower precision.",
      remedy: "compare `rlhf generate` with transformers on one prompt; run the policy server in float32.",
    };
  }
  return {
    figures,
    says,
    cause:
      "the servers hold other weights than the learner, or read the prompt differently (tokenizer, positions).",
    remedy:
      "serve the directory that `model` names, of the same run; `rlhf doctor` shows what a server holds.",
  };
}
