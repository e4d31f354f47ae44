/**
 * @file What happens in a run, kept in order and handed to whoever watches: state changes, steps, phases, log lines.
 */
import { join } from "node:path";
import { Journal, readJournal } from "./journal.js";

/** State of a run; names as in rlhf.trainer.v1.RunState. */
export type RunState = "STARTING" | "RUNNING" | "PAUSED" | "FINISHED" | "STOPPED" | "FAILED" | "INTERRUPTED";

/** Phases of a PPO step, in order. */
export const PHASES = ["generate", "score", "reference", "learn", "publish", "checkpoint"] as const;

/** One phase of a step. */
export type Phase = (typeof PHASES)[number];

/** What an event says. */
export type RunEventBody =
  | { readonly kind: "state"; readonly state: RunState; readonly reason?: string }
  | {
      readonly kind: "step";
      readonly step: number;
      readonly totalSteps: number;
      readonly metrics: Readonly<Record<string, number>>;
      readonly secondsLeft: number;
    }
  | { readonly kind: "phase"; readonly step: number; readonly phase: Phase; readonly done: number }
  | {
      readonly kind: "log";
      readonly level: "info" | "warn" | "error";
      readonly message: string;
      readonly fields?: Readonly<Record<string, string>>;
    };

/** One event of a run. */
export type RunEvent = { readonly event: number; readonly time: string } & RunEventBody;

/** Newest events that are kept in memory: a step has a hundred metrics, and a run may have a hundred thousand steps. */
const IN_MEMORY = 512;

/** The events of one run: kept on disk (all but phases), the newest in memory, and followed live. */
export class EventLog {
  readonly #journal: Journal;
  /** The newest, in order. */
  readonly #events: RunEvent[];
  readonly #followers = new Set<() => void>();
  #closed = false;

  constructor(directory: string) {
    const path = join(directory, "events.jsonl");
    this.#journal = new Journal(path);
    this.#events = (readJournal(path) as RunEvent[]).slice(-IN_MEMORY);
  }

  /** Number of the next event. */
  get next(): number {
    return (this.#events.at(-1)?.event ?? -1) + 1;
  }

  /** Adds an event. Throws where it cannot be written; whoever follows the run sees it all the same. */
  add(body: RunEventBody): RunEvent {
    const event: RunEvent = { event: this.next, time: new Date().toISOString(), ...body };
    const last = this.#events.at(-1);
    if (body.kind === "phase" && last?.kind === "phase") this.#events.pop();
    this.#events.push(event);
    if (this.#events.length > IN_MEMORY) this.#events.shift();
    for (const wake of this.#followers) wake();
    // phases are many and only of use while they last: not kept on disk, and only the newest in memory
    if (body.kind !== "phase") this.#journal.append(event);
    return event;
  }

  /** Yields events from number `from` on, then what comes, until the log is closed or `signal` aborts. */
  async *follow(from: number, signal: AbortSignal): AsyncGenerator<RunEvent> {
    let next = from;
    while (!signal.aborted) {
      const fresh = this.#from(next);
      for (const event of fresh) {
        yield event;
        next = event.event + 1;
      }
      if (fresh.length > 0) continue;
      if (this.#closed) return;
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#followers.delete(wake);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        this.#followers.add(wake);
        signal.addEventListener("abort", wake, { once: true });
      });
    }
  }

  /** Events from number `from` on; those that are no longer in memory come from disk. */
  #from(from: number): RunEvent[] {
    const oldest = this.#events[0]?.event ?? 0;
    const older = from < oldest ? (readJournal(this.#journal.path) as RunEvent[]) : [];
    const recent = this.#events.filter(({ event }) => event >= from);
    return [...older.filter(({ event }) => event >= from && event < oldest), ...recent];
  }

  /** No more events will come; followers end after the last. */
  close(): void {
    this.#closed = true;
    this.#journal.close();
    for (const wake of [...this.#followers]) wake();
  }
}
