/** @file Checks of GenerateStream, and that generation ends when its caller has gone. */
import {
  FinishReason,
  type Sequence,
  type TokenEvent,
} from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { type Check, must, needs } from "../check.js";
import { mustNameWeights } from "../info.js";
import { endsAtDeadline, mustStop } from "../stops.js";
import { sleep, VISIBLE_MS } from "../work.js";
import {
  generation,
  idsOf,
  longGeneration,
  mustBeSame,
  type PolicyTarget,
  sampled,
  workTokens,
} from "./target.js";

/** Streams that are left at once. */
const STREAMS = 8;
/** Work that still runs takes at least so much of its time again; work that was stopped takes none. */
const STILL_RUNS = 1.5;
/** How often it is tried: the machine may have been busy. */
const ATTEMPTS = 6;

/** Checks of streams and of stopping them. */
export const streamChecks: readonly Check<PolicyTarget>[] = [
  {
    id: "stream/same",
    what: "GenerateStream gives what Generate gives: each token as it is chosen, then the whole sequence",
    async run(target) {
      const request = { ...generation(target.prompts, sampled(8)), seed: 5n } as never;
      const { sequences } = await target.policy.generate(request);
      const tokens = new Map<number, TokenEvent[]>();
      const whole = new Map<number, Sequence>();
      for await (const { event, weights } of target.policy.generateStream({ request })) {
        mustNameWeights(weights, "an event's weights");
        if (event.case === "token") {
          const { promptIndex } = event.value;
          must(!whole.has(promptIndex), `prompt ${promptIndex}: a token after its sequence`);
          tokens.set(promptIndex, [...(tokens.get(promptIndex) ?? []), event.value]);
        } else if (event.case === "sequence") {
          whole.set(event.value.promptIndex, event.value);
        }
      }
      for (const [i, sequence] of sequences.entries()) {
        const streamed = whole.get(i);
        must(streamed !== undefined, `prompt ${i}: the stream ended without its sequence`);
        mustBeSame(idsOf(streamed), idsOf(sequence), `prompt ${i}: ids of the stream and of Generate`);
        const events = tokens.get(i) ?? [];
        mustBeSame(
          events.map(({ id }) => id),
          idsOf(sequence),
          `prompt ${i}: ids of the token events and of the sequence`,
        );
        must(
          events.map(({ text }) => text).join("") === sequence.text ||
            sequence.finishReason !== FinishReason.LENGTH,
          `prompt ${i}: the texts of the token events do not make the sequence's text`,
        );
      }
    },
  },
  {
    id: "deadline/stream",
    what: "a stream whose deadline passes ends with DEADLINE_EXCEEDED, in time",
    async run(target) {
      const { request, ms } = await longRun(target);
      return endsAtDeadline(ms, (headers, timeoutMs) =>
        target.raw({ method: "generateStream", request: { request: request() } }, { headers, timeoutMs }),
      );
    },
  },
  {
    id: "cancel/stream",
    what: "a stream that its reader leaves is stopped: what comes next does not wait for it",
    async run(target) {
      const { request, ms, timed } = await longRun(target);
      return mustStop(`${STREAMS} streams of ${Math.round(ms)} ms were left`, ms, {
        cancel: async () => {
          await Promise.all(
            Array.from({ length: STREAMS }, async () => {
              for await (const _ of target.policy.generateStream({ request: request() as never })) return;
            }),
          );
        },
        again: timed,
      });
    },
  },
  {
    id: "cancel/running",
    what: "generation that runs stops soon after it was cancelled, not at its end",
    async run(target) {
      const { request, ms, timed } = await longRun(target);
      let after = Number.POSITIVE_INFINITY;
      for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
        const stop = new AbortController();
        const call = target.policy.generate(request() as never, { signal: stop.signal }).catch(() => {});
        await target.roundTrip(); // the call has arrived
        await sleep(ms / 5);
        stop.abort();
        await call;
        after = Math.min(after, await timed());
        if (after < STILL_RUNS * ms)
          return `${Math.round(after)} ms after ${Math.round(ms)} ms of work were cancelled at their beginning`;
      }
      must(
        false,
        `work of ${Math.round(ms)} ms took at least ${Math.round(after)} ms each time after as much was cancelled at its beginning: it was done to its end`,
      );
    },
  },
];

/** Generation that fills the server's rows, and how long it takes. */
async function longRun(target: PolicyTarget) {
  const prompts = Math.min(target.limit("max_prompts") ?? 16, target.limit("max_rows") ?? 16);
  const request = () => longGeneration(prompts, workTokens(target.info));
  const timed = async () => {
    const began = performance.now();
    await target.policy.generate(request() as never);
    return performance.now() - began;
  };
  await timed(); // the first run of a shape is slow
  const ms = Math.min(await timed(), await timed(), await timed());
  needs(
    ms >= VISIBLE_MS,
    `${prompts} sequences take ${Math.round(ms)} ms: too quick to see whether they were stopped`,
  );
  return { request, ms, timed };
}
