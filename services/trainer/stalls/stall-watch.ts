/**
 * @file Every wait of a run has a name. One that lasts longer than its bound is reported while it lasts: what is waited for, on
 * which server, since when; in events, log, metric and span.
 */
import { counter, trace } from "../../../lib/telemetry/index.js";
import { RunFailedError } from "../errors.js";
import type { RunContext } from "../runs/context.js";

const stalls = counter("rlhf.run.stalls");

/** What is waited for. */
export interface Wait {
  /** The call: one of a handful of names, since it becomes an attribute of a metric. */
  readonly call:
    | "generate"
    | "score"
    | "reference"
    | "agreement"
    | "learn"
    | "publish"
    | "weights"
    | "checkpoint";
  /** Who is to answer: addresses, a file; asked for when there is something to report. */
  readonly on: string | (() => string);
  /** After this many milliseconds the wait fails. Default: the call has a deadline of its own. */
  readonly deadlineMs?: number;
}

/** What the work of a wait may use. */
export interface WaitControl {
  /** Says that work goes on: the bound counts from here. */
  beat(): void;
  /** Aborts at the deadline. */
  readonly signal: AbortSignal;
}

/** What a watch needs. */
export interface StallWatchOptions {
  /** Longest wait that is no stall, in milliseconds. */
  readonly warnMs: number;
  readonly log: RunContext["log"];
}

/** Watches the waits of one run. */
export class StallWatch {
  constructor(private readonly options: StallWatchOptions) {}

  /**
   * Waits for `work`. Reports after warnMs without an end or a beat, again whenever that time has doubled, and at the end how long
   * it was. Throws RunFailedError (WAIT_TOO_LONG) at the deadline, else what the work throws.
   */
  async watched<T>(wait: Wait, work: (control: WaitControl) => Promise<T>): Promise<T> {
    const stall = new Stall(wait, this.options);
    const late = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    try {
      const done = work({ beat: () => stall.begin(), signal: late.signal });
      const { deadlineMs } = wait;
      if (deadlineMs === undefined) return await done;
      const deadline = new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          const error = new RunFailedError(
            "WAIT_TOO_LONG",
            `${stall.name} was not done within ${deadlineMs} ms`,
          );
          reject(error);
          late.abort(error);
        }, deadlineMs);
      });
      done.catch(() => {}); // after the deadline nobody listens
      return await Promise.race([done, deadline]);
    } finally {
      clearTimeout(timer);
      stall.end();
    }
  }
}

/** One wait, from its beginning or its last beat. */
class Stall {
  readonly #span = trace.getActiveSpan();
  #since = 0;
  #reports = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly wait: Wait,
    private readonly options: StallWatchOptions,
  ) {
    this.begin();
  }

  get name(): string {
    const { call, on } = this.wait;
    return `${call} on ${typeof on === "string" ? on : on()}`;
  }

  begin(): void {
    this.end();
    this.#since = Date.now();
    this.#reports = 0;
    this.#arm(this.options.warnMs);
  }

  end(): void {
    clearTimeout(this.#timer);
    if (this.#reports === 0) return;
    this.#reports = 0;
    this.options.log("info", `${this.name} went on after ${this.#seconds} s`, this.#fields());
  }

  #arm(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#report();
      this.#arm(ms * 2);
    }, ms);
    this.#timer.unref();
  }

  #report(): void {
    const fields = this.#fields();
    this.options.log(
      "warn",
      `stall: ${this.name}, no answer for ${this.#seconds} s (since ${fields.since})`,
      fields,
    );
    this.#span?.addEvent("rlhf.stall", fields);
    if (this.#reports === 0) stalls.add(1, { "rlhf.wait": this.wait.call });
    this.#reports += 1;
  }

  #fields(): Record<string, string> {
    const { call, on } = this.wait;
    return {
      stall: call,
      on: typeof on === "string" ? on : on(),
      since: new Date(this.#since).toISOString(),
      seconds: this.#seconds,
    };
  }

  get #seconds(): string {
    return ((Date.now() - this.#since) / 1000).toFixed(1);
  }
}
