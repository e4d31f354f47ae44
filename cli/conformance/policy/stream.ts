/** @file Checks of GenerateStream, and that generation ends when its caller has gone. */
import {
  FinishReason,
  type Sequence,
  type TokenEvent,
} from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { type Check, must, needs } from "../check.js";
import { mustNameWeights } from "../info.js";
import { endsAtDeadline, mustStop } from "../stops.js";
import { sleep, stopper, VISIBLE_MS } from "../work.js";
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
/** Share of a stream's time after which its first token must have come. */
const EARLY = 0.4;
/** Tokens of a stream that is looked at, where the model has room for them beside its prompt. */
const EARLY_TOKENS = 256;
const PROMPT_TOKENS = 16;
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
    id: "stream/early",
    what: "tokens are sent as they are chosen, not all at the end",
    async run(target) {
      const most = Math.min(EARLY_TOKENS, (target.info?.model?.maxTokens ?? 0) - PROMPT_TOKENS);
      const request = () => longGeneration(1, Math.max(most, workTokens(target.info))) as never;
      let earliest = 1;
      for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
        const asked = performance.now();
        await target.roundTrip();
        const began = performance.now();
        const wire = began - asked; // no part of the server's time
        let first = 0;
        for await (const { event } of target.policy.generateStream({ request: request() })) {
          if (event.case === "token" && first === 0) first = performance.now() - began - wire;
        }
        const all = performance.now() - began - wire;
        needs(
          all >= VISIBLE_MS,
          `the stream took ${Math.round(all)} ms: too quick to see when its tokens came`,
        );
        earliest = Math.min(earliest, Math.max(0, first / all));
        if (earliest < EARLY) return `the first token came after ${percent(earliest)} of the time`;
      }
      must(false, `the first token came after at least ${percent(earliest)} of the time each time`);
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
      const { request, prompts, ms, timed } = await longRun(target);
      const room = Math.floor((target.limit("max_queue_sequences") ?? STREAMS * prompts) / prompts);
      const streams = Math.max(1, Math.min(STREAMS, room));
      return mustStop(`${streams} streams of ${Math.round(ms)} ms were left`, ms, {
        cancel: async () => {
          const stop = stopper();
          const open = Array.from({ length: streams }, async () => {
            const events = target.policy.generateStream(
              { request: request() as never },
              { signal: stop.signal },
            );
            for await (const _ of events) break; // others may still wait for their turn
            stop.abort();
          });
          await Promise.allSettled(open);
        },
        again: timed,
      });
    },
  },
  {
    id: "cancel/running",
    what: "generation that runs stops soon after it was cancelled, not at its end",
    async run(target) {
      const { request, timed, ...measured } = await longRun(target);
      let [ms, least] = [measured.ms, Number.POSITIVE_INFINITY];
      for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
        ms = Math.min(ms, await timed()); // again, for the machine may be busy now
        const stop = new AbortController();
        const began = performance.now();
        const call = target.policy.generate(request() as never, { signal: stop.signal }).catch(() => {});
        await target.roundTrip(); // the call has arrived
        await sleep(ms / 10);
        stop.abort();
        await call;
        const left = ms - (performance.now() - began);
        if (left < ms / 2) continue; // too much of it was done to see what became of the rest
        const extra = (await timed()) - ms;
        if (extra < left / 2) return `${Math.round(left)} of ${Math.round(ms)} ms of work were left undone`;
        least = Math.min(least, extra);
      }
      needs(Number.isFinite(least), "the calls that were to be cancelled were done too soon");
      must(
        false,
        `work of ${Math.round(ms)} ms took at least ${Math.round(least)} ms longer each time after as much was cancelled at its beginning: it was done to its end`,
      );
    },
  },
];

const percent = (share: number) => `${Math.round(100 * share)} %`;

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
  return { request, prompts, ms, timed };
}
