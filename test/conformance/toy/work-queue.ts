/**
 * @file The model of a toy server as far as time goes: one call after the other, each item for a while, behind a bounded queue. It waits
 * instead of computing, so that what is measured does not depend on what else the machine does.
 */
import { setTimeout as pause } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { Refusal } from "./refusal.js";

interface Job {
  readonly items: number;
  readonly ms: number;
  readonly steps: number;
  readonly onStep: () => void;
  readonly signal: AbortSignal;
  readonly done: () => void;
  readonly failed: (error: unknown) => void;
}

/** Does one call's work after the other's. */
export class WorkQueue {
  /** Items that may wait. */
  capacity = 64;
  /** Whether a call whose caller has gone leaves its place in the queue. */
  leavesQueue = true;
  /** Whether work is given up when its caller has gone. */
  givesUp = true;
  /** How many times as long everything takes. */
  slower = 1;
  /** What a full queue says. */
  full = () => new Refusal(status.RESOURCE_EXHAUSTED, "the queue is full", "QUEUE_FULL", [], 100);

  #waiting: Job[] = [];
  #running = false;

  /** Waits for its turn and for so many milliseconds of work. Rejects when the queue is full or the caller has gone. */
  run(items: number, ms: number, signal: AbortSignal, steps = 1, onStep = () => {}): Promise<void> {
    return new Promise((done, failed) => {
      const waiting = this.#waiting.reduce((sum, job) => sum + job.items, 0);
      if (waiting > 0 && waiting + items > this.capacity) return failed(this.full());
      const job = { items, ms, steps, onStep, signal, done, failed };
      this.#waiting.push(job);
      if (this.leavesQueue) {
        signal.addEventListener("abort", () => {
          this.#waiting = this.#waiting.filter((other) => other !== job);
          failed(gone());
        });
      }
      if (!this.#running) void this.#work();
    });
  }

  /** The same as steps: yields after each. */
  async *inSteps(items: number, ms: number, steps: number, signal: AbortSignal): AsyncGenerator<number> {
    let done = 0;
    let failure: unknown;
    let wake = () => {};
    this.run(items, ms, signal, steps, () => {
      done++;
      wake();
    }).catch((error: unknown) => {
      failure = error;
      wake();
    });
    for (let given = 0; given < steps; ) {
      if (given < done) yield given++;
      else if (failure !== undefined) throw failure;
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  }

  async #work(): Promise<void> {
    this.#running = true;
    for (let job = this.#waiting.shift(); job; job = this.#waiting.shift()) {
      try {
        const began = performance.now();
        for (let step = 1; step <= job.steps; step++) {
          const due = began + (step * job.ms * this.slower) / job.steps; // what one timer is late the next ones make up for
          const left = Math.max(0, due - performance.now());
          await pause(left, undefined, this.givesUp ? { signal: job.signal } : {});
          job.onStep();
        }
        job.done();
      } catch {
        job.failed(gone());
      }
    }
    this.#running = false;
  }
}

function gone(): Refusal {
  return new Refusal(status.CANCELLED, "nobody waits for this any more", "CANCELLED");
}
