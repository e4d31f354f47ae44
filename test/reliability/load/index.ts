/** @file A load generator as a test has it: a process of its own, so that neither disturbs the other's clock. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { LoadJob, LoadReport } from "./protocol.js";

export type { LoadReport } from "./protocol.js";

const SCRIPT = fileURLToPath(new URL("./load-generator.js", import.meta.url));

/** What a job may leave out. */
const DEFAULTS = { deadlineMs: 10_000, seed: 1, connections: 8, healthEveryMs: 0, settleMs: 0 } as const;

/** A job with the fields that it wants other than the defaults. */
export type LoadRequest = Omit<LoadJob, keyof typeof DEFAULTS> & Partial<LoadJob>;

/** One process that makes load, one job at a time. */
export class LoadGenerator {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(SCRIPT, [], { serialization: "advanced" });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Makes load. Rejects where the generator could not. */
  async run(request: LoadRequest): Promise<LoadReport> {
    const job: LoadJob = { ...DEFAULTS, ...request };
    this.#child.send(job);
    const ended = new AbortController();
    const answer = once(this.#child, "message", { signal: ended.signal });
    const exit = once(this.#child, "exit", { signal: ended.signal }).then(([code]) => {
      throw new Error(`the load generator ended with ${code}`);
    });
    try {
      const [{ report, failure }] = (await Promise.race([answer, exit])) as [
        { report?: LoadReport; failure?: string },
      ];
      if (!report) throw new Error(failure);
      return report;
    } finally {
      ended.abort();
      answer.catch(() => {});
      exit.catch(() => {});
    }
  }

  close(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}
