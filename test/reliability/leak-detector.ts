/**
 * @file Whether what a process holds stays flat: vitals are taken whenever it is idle, while a test repeats its load; after the first
 * rounds, in which caches and pools fill, nothing may grow with the calls.
 */
import { noteFigure } from "./figures.js";
import { type Vitals, vitalsOf } from "./vitals.js";

/** A process under watch. */
export interface Watched {
  readonly name: string;
  readonly pid: number;
}

/** Bytes that live objects may grow by, from the first counted round to the last, whatever the calls: the collector's own noise. */
const HEAP_NOISE = 2_000_000;
/** Bytes that live objects may grow by with each call: latency histograms and the like fill slowly. */
const HEAP_PER_CALL = 100;
/** Bytes of resident memory that come and go: pages that the allocator keeps. */
const RSS_NOISE = 24e6;
const RSS_PER_CALL = 1000;
/** Tensors and native values that come and go: the cache that a policy keeps for the next request has the form of the last one. */
const TENSOR_NOISE = 16;
/** Handles and files that come and go: connections that are being closed. */
const HANDLE_NOISE = 6;

/** Collects the vitals of the processes of one test. */
export class LeakDetector {
  readonly #rounds: { readonly calls: number; readonly vitals: readonly Vitals[] }[] = [];

  constructor(
    /** Folder of `reporting`. */
    private readonly folder: string,
    private readonly watched: readonly Watched[],
    /** Rounds at the beginning that do not count. */
    private readonly warmUp = 2,
    /** Noise of resident memory in bytes and of native values, where a test's load or models are larger than the others'. */
    private readonly noise = { resident: RSS_NOISE, tensors: TENSOR_NOISE },
  ) {}

  /** Takes the vitals after a round of so many calls; the processes must be idle. */
  async round(calls: number): Promise<void> {
    const vitals = await Promise.all(this.watched.map(({ pid }) => vitalsOf(this.folder, pid)));
    this.#rounds.push({ calls, vitals });
  }

  /** Notes the figures, and throws an Error naming all that grew. */
  assertFlat(test: string): void {
    const counted = this.#rounds.slice(this.warmUp);
    if (counted.length < 2) throw new Error(`${this.#rounds.length} rounds are too few to see a leak`);
    const calls = counted.slice(1).reduce((sum, round) => sum + round.calls, 0);
    const problems: string[] = [];
    const said = this.watched.map(({ name }, i) => {
      const first = counted[0]?.vitals[i] as Vitals;
      const last = counted.at(-1)?.vitals[i] as Vitals;
      problems.push(
        ...growth(first, last, calls, this.noise).map((what) => `${name}: ${what} in ${calls} calls`),
      );
      const change = (of: keyof Vitals) => last[of] - first[of];
      const live = signed((liveOf(last) - liveOf(first)) / 1e6, 2);
      const resident = signed(change("rss") / 1e6, 1);
      return `${name} live ${live} MB, resident ${resident} MB, handles ${signed(change("handles"))}, files ${signed(change("files"))}, OrtValues ${signed(change("values"))}`;
    });
    noteFigure({ test, load: `${counted.length} rounds, ${calls} calls`, measured: said.join("; ") });
    if (problems.length > 0) throw new Error(`leaks: ${problems.join("; ")}`);
  }
}

const liveOf = ({ heap, external }: Vitals) => heap + external;

/** What grew by more than it may. */
function growth(
  first: Vitals,
  last: Vitals,
  calls: number,
  noise: { readonly resident: number; readonly tensors: number },
): string[] {
  const problems: string[] = [];
  const check = (what: string, by: number, most: number) => {
    if (by > most) problems.push(`${what} grew by ${by}, at most ${Math.round(most)}`);
  };
  check("live memory", liveOf(last) - liveOf(first), HEAP_NOISE + HEAP_PER_CALL * calls);
  check("resident memory", last.rss - first.rss, noise.resident + RSS_PER_CALL * calls);
  check("handles", last.handles - first.handles, HANDLE_NOISE);
  check("open files", last.files - first.files, HANDLE_NOISE);
  check("tensors", last.tensors - first.tensors, noise.tensors);
  check("native values", last.values - first.values, noise.tensors);
  check("tensors that nobody released", last.forgotten, 0);
  return problems;
}

const signed = (value: number, digits = 0) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
