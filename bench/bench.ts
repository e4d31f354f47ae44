/**
 * @file What a benchmark is, and what it is given: options, model directories, and somewhere to put its rows.
 */
import type { EngineDevice } from "../lib/engine/index.js";
import type { ModelName } from "./models.js";
import type { Row } from "./rows.js";

/** How benchmarks are run. */
export interface BenchOptions {
  /** Tiny sizes: proves that a benchmark works, measures nothing. */
  readonly quick: boolean;
  /** Threads of one operator. */
  readonly threads: number;
  readonly device: EngineDevice;
  /** Folder for models and scratch files, ignored by git. */
  readonly folder: string;
  /** Runs of each case; default: each benchmark's own. */
  readonly runs?: number;
}

/** What a benchmark works with. */
export interface Bench extends BenchOptions {
  /** Directory of a model that the benchmark asked for. */
  model(name: ModelName): string;
  /** Adds a row of results. */
  row(row: Row): void;
  /** Adds a sentence that belongs to the results, for example how weights travelled. */
  note(text: string): void;
  /** Tells whoever waits how far it is. */
  say(text: string): void;
}

/** What a peer is asked to do. */
export interface PeerTask {
  /** File below bench/peers. */
  readonly script: string;
  /** Everything it needs to know, as JSON. */
  readonly input: Readonly<Record<string, unknown>>;
}

/** One benchmark. */
export interface Benchmark {
  /** What it is called on the command line. */
  readonly name: string;
  /** What it measures, as a phrase. */
  readonly title: string;
  /** Models that must be at hand. */
  readonly models: readonly ModelName[];
  /** Rounds with peers in which ours and theirs take turns; default 2. */
  readonly rounds?: number;
  run(bench: Bench): Promise<void>;
  /** The same work for a peer. */
  peer?(bench: Bench): PeerTask;
}

/** `full` sizes, or `quick` ones. */
export function sized<T>({ quick: isQuick }: Pick<BenchOptions, "quick">, full: T, quick: T): T {
  return isQuick ? quick : full;
}
