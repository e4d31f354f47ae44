/** @file Checks that work ends when nobody waits for it any more: deadlines and cancellation, the same for every service. */
import { type Check, must, NotChecked } from "./check.js";
import type { RawOutcome } from "./raw-call.js";
import type { Target } from "./target.js";
import {
  CANCELLED_TIMES,
  sleep,
  start,
  stopper,
  timed,
  VISIBLE_MS,
  visibleWork,
  withCompany,
} from "./work.js";

/** How late after a deadline the answer may come. */
const LATE_MS = 1000;
/** Deadlines that are tried. */
const DEADLINES = 5;
/** How often a measurement that was too slow is made: the machine may have been busy. */
const ATTEMPTS = 3;

/** Checks of deadlines and cancellation. */
export const stopChecks: readonly Check<Target>[] = [
  {
    id: "deadline/honoured",
    what: "a call whose deadline passes ends with DEADLINE_EXCEEDED, in time",
    async run(target) {
      const work = await visibleWork(target);
      return endsAtDeadline(work.ms, (headers, timeoutMs) =>
        withCompany(target, work, () => target.raw(target.subject.work(work.size), { headers, timeoutMs })),
      );
    },
  },
  {
    id: "deadline/passed",
    what: "a call whose deadline has passed on arrival is not answered",
    async run(target) {
      const work = await visibleWork(target);
      const headers = { "grpc-timeout": "1n" };
      const outcome = await withCompany(target, work, () =>
        target.raw(target.subject.work(work.size), { headers }),
      );
      must(wasLate(outcome), `a deadline of 1 ns: expected status 4, got ${outcome.status}`);
    },
  },
  {
    id: "cancel/stops",
    what: "cancelled work is not done: what comes next does not wait for it",
    async run(target) {
      const work = await visibleWork(target);
      return mustStop(`${CANCELLED_TIMES} times ${Math.round(work.ms)} ms of work were cancelled`, work.ms, {
        cancel: async () => {
          const stop = stopper();
          const cancelled = Array.from({ length: CANCELLED_TIMES }, () =>
            start(target, work, stop.signal),
          ).flat();
          await target.roundTrip(); // the calls have arrived
          await sleep(work.ms / 4);
          stop.abort();
          await Promise.allSettled(cancelled);
        },
        again: () => timed(target, work),
      });
    },
  },
];

/** Fails unless a call that takes `ms` ends at deadlines before that, and not only once its work is done; a word on how exactly. */
export async function endsAtDeadline(
  ms: number,
  call: (headers: Record<string, string>, timeoutMs: number) => Promise<RawOutcome>,
): Promise<string> {
  let seen = "";
  for (let attempt = 1; attempt <= DEADLINES; attempt++) {
    const timeout = Math.max(1, Math.floor(ms / (3 * attempt)));
    const outcome = await call(
      { "grpc-timeout": `${timeout}m` },
      Math.max(CANCELLED_TIMES * ms, timeout + 2 * LATE_MS),
    );
    if (outcome.status === 0 && outcome.ms < timeout + VISIBLE_MS / 2) continue; // quicker than measured
    const [at, over] = [Math.round(outcome.ms), Math.round(outcome.ms - timeout)];
    must(!outcome.late, `no end ${over} ms after a deadline of ${timeout} ms`);
    must(
      wasLate(outcome),
      `after a deadline of ${timeout} ms came status ${outcome.status}, at ${at} ms; expected status 4`,
    );
    if (over <= Math.min(LATE_MS, (ms - timeout) / 2)) {
      return `told ${Math.max(0, over)} ms after a deadline of ${timeout} ms`;
    }
    seen = `a deadline of ${timeout} ms in work of ${Math.round(ms)} ms was told ${over} ms late, and others like it`;
  }
  must(seen === "", seen);
  throw new NotChecked("the server answered before every deadline that was tried");
}

/** DEADLINE_EXCEEDED, or a reset, as some gRPC libraries end calls whose deadline has passed. */
function wasLate({ status, reset }: RawOutcome): boolean {
  return status === 4 || (status === undefined && reset !== undefined);
}

/**
 * Fails unless work of `ms` takes about as long after more of it was cancelled as it takes now without; a word on how long. It is
 * measured again each time, for the machine may be busy.
 */
export async function mustStop(
  what: string,
  ms: number,
  { cancel, again }: { cancel: () => Promise<void>; again: () => Promise<number> },
): Promise<string> {
  let after = 0;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const now = Math.max(ms, await again());
    await cancel();
    after = Math.round(await again());
    if (after <= 3 * now + VISIBLE_MS) return `${after} ms after ${what}`;
  }
  must(false, `work of ${Math.round(ms)} ms took ${after} ms after ${what}: it was done to its end`);
}
