/** @file The calls that a server is answering now: what a drain waits for, and what it ends. */
import type { CallState } from "./call-state.js";

/** Calls in progress. Calls that live until the server drains (health Watch) are kept apart: nobody waits for them. */
export class InFlight {
  private readonly running = new Set<CallState>();
  private readonly lasting = new Set<CallState>();
  private idle: (() => void)[] = [];

  /** Calls that a drain waits for. */
  get count(): number {
    return this.running.size;
  }

  add(call: CallState, lasting: boolean): void {
    (lasting ? this.lasting : this.running).add(call);
  }

  remove(call: CallState): void {
    this.lasting.delete(call);
    this.running.delete(call);
    if (this.running.size > 0) return;
    const waiting = this.idle;
    this.idle = [];
    for (const resolve of waiting) resolve();
  }

  /** Resolves true once no call runs, or false after `timeoutMs`. */
  async whenIdle(timeoutMs: number): Promise<boolean> {
    if (this.running.size === 0) return true;
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), timeoutMs);
      this.idle.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  /** Ends the calls that live until the server drains. */
  endLasting(): void {
    for (const call of this.lasting) call.end?.();
  }

  /** Ends whatever still runs. */
  endAll(): void {
    this.endLasting();
    for (const call of this.running) call.end?.();
  }
}
