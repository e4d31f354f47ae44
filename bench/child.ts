/**
 * @file One benchmark in a process of its own, so that none leaves its memory or its threads to the next: takes a job from its parent,
 * measures the ceiling before and after, and sends rows as they come. Ends when its parent does.
 */
import type { Bench, BenchOptions } from "./bench.js";
import { BENCHMARKS } from "./benchmarks/index.js";
import { measureCeiling } from "./ceiling.js";
import { modelDirectory } from "./models.js";
import type { Row } from "./rows.js";

/** What the parent asks for. */
export interface Job {
  readonly name: string;
  readonly options: BenchOptions;
}

/** What the child says. */
export type Report =
  | { readonly kind: "row"; readonly row: Row }
  | { readonly kind: "note" | "say"; readonly text: string }
  /** GFLOP/s of the ceiling's product. */
  | { readonly kind: "ceiling"; readonly samples: number[] }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly text: string };

/** A benchmark's surroundings, with rows and words going to `report`. */
export function benchOf(options: BenchOptions, report: (message: Report) => void): Bench {
  return {
    ...options,
    model: (name) => modelDirectory(name, options),
    row: (row) => report({ kind: "row", row }),
    note: (text) => report({ kind: "note", text }),
    say: (text) => report({ kind: "say", text }),
  };
}

async function work({ name, options }: Job, report: (message: Report) => void): Promise<void> {
  const benchmark = BENCHMARKS.find((each) => each.name === name);
  if (!benchmark) throw new Error(`${name}: no such benchmark`);
  report({ kind: "ceiling", samples: await measureCeiling(options) });
  await benchmark.run(benchOf(options, report));
  report({ kind: "ceiling", samples: await measureCeiling(options) });
}

if (process.send) {
  const send = (message: Report) => new Promise((sent) => process.send!(message, sent));
  process.once("disconnect", () => process.exit(1));
  process.once("message", (job: Job) => {
    work(job, (message) => void send(message))
      .then(() => send({ kind: "done" }))
      .catch((error: Error) => send({ kind: "failed", text: error.stack ?? String(error) }))
      .finally(() => process.exit());
  });
}
