/**
 * @file Checks of calls as such, the same for every service: errors with details, limits, deadlines, cancellation, traces. What a
 * server does with its time is seen from outside, by how long the next call takes.
 */
import { setMaxListeners } from "node:events";
import type { ServiceError } from "@grpc/grpc-js";
import { StatusSchema } from "../../lib/api/gen/google/rpc/status_pb.js";
import { decodeMessage } from "../../lib/api/index.js";
import type { CallOptions, RpcError } from "../../lib/rpc/index.js";
import { type Check, must, NotChecked, needs } from "./check.js";
import { errorOf, mustRefuse, type Target } from "./target.js";

/** Trailer of google.rpc.Status. */
const DETAILS = "grpc-status-details-bin";
/** Work must take this long for a stop to be seen, in milliseconds. */
const VISIBLE_MS = 60;
/** Work is made larger until it takes this long. */
const WANTED_MS = 250;
/** How many times as much work is cancelled as is measured. */
const CANCELLED_TIMES = 5;
/** How soon a queue must have room after what was in it is cancelled. */
const ROOM_MS = 2000;
/** How late after a deadline the answer may come. */
const LATE_MS = 1000;

/** Checks of calls. */
export const callChecks: readonly Check<Target>[] = [
  {
    id: "errors/details",
    what: "a refusal carries google.rpc.Status with BadRequest and ErrorInfo, and says the same as the status",
    async run(target) {
      const error = await mustRefuse(
        target.send(target.subject.refused()),
        "a bad request",
        "INVALID_ARGUMENT",
      );
      must(error.details.length > 0, "no grpc-status-details-bin trailer, or one that cannot be decoded");
      must(error.violations.length > 0, "no BadRequest among the details");
      must(
        error.violations.every(({ field, description }) => field && description),
        "a violation is empty",
      );
      must(Boolean(error.reason), "no ErrorInfo with a reason among the details");
      const { details: text, metadata } = error.cause as ServiceError;
      const { code, message } = decodeMessage(StatusSchema, metadata.get(DETAILS)[0] as Buffer);
      must(
        code === error.grpcCode && message === text,
        `google.rpc.Status says ${code} "${message}", the call's own status ${error.grpcCode} "${text}"`,
      );
    },
  },
  {
    id: "errors/garbage",
    what: "bytes that are no message are INVALID_ARGUMENT (or INTERNAL, as gRPC libraries have it), and harm nothing",
    async run(target) {
      const { status } = await target.raw(target.subject.probe(), {
        message: Buffer.from([0xff, 0xff, 0xff]),
      });
      must(status === 3 || status === 13, `expected status 3 or 13, got ${status}`);
      await target.send(target.subject.probe());
    },
  },
  {
    id: "errors/unknown-method",
    what: "a method that is not there is UNIMPLEMENTED",
    async run(target) {
      const path = `/${target.subject.desc.typeName}/NoSuchMethod`;
      const { status } = await target.raw(target.subject.probe(), { path });
      must(status === 12, `expected status 12, got ${status}`);
    },
  },
  {
    id: "limits/message",
    what: "a message above limits[max_receive_bytes] is RESOURCE_EXHAUSTED",
    async run(target) {
      const bytes = target.neededLimit("max_receive_bytes");
      const { status, reset } = await target.raw(target.subject.probe(), {
        message: Buffer.alloc(bytes + 1),
      });
      must(status === 8, `expected status 8, got ${status ?? `a reset with ${reset}`}`);
    },
  },
  {
    id: "limits/metadata",
    what: "metadata above limits[max_metadata_bytes] is RESOURCE_EXHAUSTED",
    async run(target) {
      const bytes = target.neededLimit("max_metadata_bytes");
      const metadata = { "x-conformance": "x".repeat(bytes) };
      await mustRefuse(
        target.send(target.subject.probe(), { metadata }),
        "a large header",
        "RESOURCE_EXHAUSTED",
      );
    },
  },
  {
    id: "limits/queue",
    what: "a full queue is RESOURCE_EXHAUSTED, says when to come back, and has room again once calls are cancelled",
    async run(target) {
      const refusal = await fillQueue(target);
      needs(refusal !== undefined, "the queue never filled up: the server is as fast as the calls came");
      must(refusal.retryDelayMs !== undefined, "the refusal has no RetryInfo that says when to come back");
      const began = performance.now();
      for (;;) {
        const error = await target.send(target.subject.probe()).then(
          () => undefined,
          (thrown: RpcError) => thrown,
        );
        if (!error) return;
        must(error.status === "RESOURCE_EXHAUSTED", `then a call failed with ${error.message}`);
        must(performance.now() - began < ROOM_MS, `no room ${ROOM_MS} ms after all calls were cancelled`);
        await sleep(20);
      }
    },
  },
  {
    id: "deadline/honoured",
    what: "a call whose deadline passes ends with DEADLINE_EXCEEDED, in time",
    async run(target) {
      const work = await visibleWork(target);
      for (let attempt = 1; attempt <= 3; attempt++) {
        const timeout = Math.max(1, Math.floor(work.ms / (3 * attempt)));
        const outcome = await withCompany(target, work, () =>
          target.raw(target.subject.work(work.size), {
            headers: { "grpc-timeout": `${timeout}m` },
            timeoutMs: Math.max(5 * work.ms, timeout + 2 * LATE_MS),
          }),
        );
        if (outcome.status === 0 && outcome.ms < timeout + VISIBLE_MS / 2) continue; // quicker than measured
        const [at, over] = [Math.round(outcome.ms), Math.round(outcome.ms - timeout)];
        must(!outcome.late, `no end ${over} ms after a deadline of ${timeout} ms`);
        must(
          outcome.status === 4 || (outcome.status === undefined && outcome.reset !== undefined),
          `after a deadline of ${timeout} ms came status ${outcome.status}, at ${at} ms`,
        );
        must(over < LATE_MS, `a deadline of ${timeout} ms was told ${over} ms late`);
        return `told ${Math.max(0, over)} ms after a deadline of ${timeout} ms`;
      }
      throw new NotChecked("the server answered before every deadline that was tried");
    },
  },
  {
    id: "deadline/passed",
    what: "a call whose deadline has passed on arrival is not answered",
    async run(target) {
      const work = await visibleWork(target);
      const headers = { "grpc-timeout": "1n" };
      const { status, reset } = await withCompany(target, work, () =>
        target.raw(target.subject.work(work.size), { headers }),
      );
      must(status === 4 || (status === undefined && reset !== undefined), `expected status 4, got ${status}`);
    },
  },
  {
    id: "cancel/stops",
    what: "cancelled work is not done: what comes next does not wait for it",
    async run(target) {
      const work = await visibleWork(target);
      const most = 3 * work.ms + VISIBLE_MS;
      const ms = Math.round(work.ms);
      let after = 0;
      for (let attempt = 1; attempt <= 3; attempt++) {
        const stop = stopper();
        const cancelled = Array.from({ length: CANCELLED_TIMES }, () =>
          start(target, work, stop.signal),
        ).flat();
        await sleep(work.ms / 4);
        stop.abort();
        await Promise.allSettled(cancelled);
        after = await timed(target, work);
        if (after <= most)
          return `${Math.round(after)} ms after cancelling ${CANCELLED_TIMES} times ${ms} ms of work`;
      }
      must(
        false,
        `${ms} ms of work took ${Math.round(after)} ms after ${CANCELLED_TIMES} times as much was cancelled`,
      );
    },
  },
  {
    id: "trace/accepted",
    what: "W3C trace context is accepted, malformed too (whether spans are exported cannot be seen from outside)",
    async run(target) {
      const contexts: CallOptions["metadata"][] = [
        { traceparent: `00-${"a1".repeat(16)}-${"b2".repeat(8)}-01`, tracestate: "vendor=value,other=1" },
        { traceparent: `00-${"0".repeat(32)}-${"0".repeat(16)}-00` },
        { traceparent: "not a trace context", tracestate: "=" },
      ];
      for (const metadata of contexts) {
        try {
          await target.send(target.subject.probe(), { metadata });
        } catch (error) {
          must(false, `traceparent "${metadata?.traceparent}": ${(error as Error).message}`);
        }
      }
    },
  },
];

/** Measured work. */
interface Work {
  /** Items of each call. */
  readonly size: number;
  /** Calls at once. */
  readonly calls: number;
  /** How long all of them take when nothing else runs. */
  readonly ms: number;
}

const measured = new WeakMap<Target, Promise<Work>>();

/** Work that takes long enough for a stop to be seen, within the limits. Measured once per target. */
async function visibleWork(target: Target): Promise<Work> {
  let known = measured.get(target);
  if (!known) {
    known = measure(target);
    measured.set(target, known);
  }
  const work = await known;
  needs(
    work.ms >= VISIBLE_MS,
    `${work.calls * work.size} items take ${Math.round(work.ms)} ms: too quick to see whether they were stopped`,
  );
  return work;
}

async function measure(target: Target): Promise<Work> {
  const items = target.limit(target.subject.itemsLimit) ?? 64;
  // all that is cancelled at once must find room in the queue
  const room = Math.floor((target.limit(target.subject.queueLimit) ?? 1024) / (CANCELLED_TIMES + 1));
  let work = { size: 1, calls: 1, ms: Number.POSITIVE_INFINITY };
  await timed(target, work); // the first run of a shape is slow
  for (let next: typeof work | undefined = work; next; next = larger(work, items, room)) {
    try {
      work = { ...next, ms: await timed(target, next) };
    } catch (error) {
      if ((error as RpcError).status !== "RESOURCE_EXHAUSTED" || next.calls === 1) throw error;
      break; // its queue is bounded in another measure too
    }
    if (work.ms >= WANTED_MS) break;
  }
  return { ...work, ms: Math.min(work.ms, await timed(target, work), await timed(target, work)) };
}

/** More items, then more calls; undefined where the limits allow no more. */
function larger({ size, calls, ms }: Work, items: number, room: number): Work | undefined {
  const most = Math.max(1, Math.min(items, room));
  if (size < most) return { size: Math.min(most, size * 4), calls, ms };
  return 2 * calls * size <= room ? { size, calls: 2 * calls, ms } : undefined;
}

/** Starts work; the calls. */
function start(target: Target, { size, calls }: Work, signal?: AbortSignal): Promise<unknown>[] {
  return Array.from({ length: calls }, () => target.send(target.subject.work(size), { signal }));
}

async function timed(target: Target, work: Work): Promise<number> {
  const began = performance.now();
  await Promise.all(start(target, work));
  return performance.now() - began;
}

/** Makes one call while the other calls of the work run, and cancels those when it has ended. */
async function withCompany<T>(target: Target, work: Work, call: () => Promise<T>): Promise<T> {
  const stop = stopper();
  const company = start(target, { ...work, calls: work.calls - 1 }, stop.signal);
  try {
    return await call();
  } finally {
    stop.abort();
    await Promise.allSettled(company);
  }
}

/** Cancels any number of calls. */
function stopper(): AbortController {
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  return stop;
}

/** Sends more than may wait, until something is refused; then cancels it all. The refusal, if there was one. */
async function fillQueue(target: Target): Promise<RpcError | undefined> {
  const { itemsLimit, queueLimit, runningLimit } = target.subject;
  const items = target.neededLimit(itemsLimit);
  const running = runningLimit === undefined ? items : target.neededLimit(runningLimit);
  const room = target.neededLimit(queueLimit) + running;
  const stop = stopper();
  let refusal: RpcError | undefined;
  const sent = Array.from({ length: Math.ceil((2 * room) / items) + 1 }, async () => {
    const call = target.send(target.subject.work(items), { signal: stop.signal });
    const error = await errorOf(call, "a call").catch(() => undefined);
    if (stop.signal.aborted || !error) return;
    refusal = error;
    stop.abort();
  });
  await Promise.all(sent);
  must(
    refusal === undefined || refusal.status === "RESOURCE_EXHAUSTED",
    `expected RESOURCE_EXHAUSTED, got ${refusal?.message}`,
  );
  return refusal;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
