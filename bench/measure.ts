/**
 * @file Clocks and memory: how long a piece of work takes, again and again, and the most memory it held.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { quantile } from "./statistics.js";

/** How often work is run. */
export interface Repetitions {
  /** Runs that are not counted; the first at a new shape is slower, because memory is fetched from the system. */
  readonly warmup: number;
  readonly runs: number;
}

/** Runs `work` again and again; wall seconds of each counted run. */
export async function timeRuns(
  { warmup, runs }: Repetitions,
  work: (run: number) => Promise<unknown>,
): Promise<number[]> {
  const seconds: number[] = [];
  for (let run = -warmup; run < runs; run++) {
    const started = performance.now();
    await work(run);
    if (run >= 0) seconds.push((performance.now() - started) / 1000);
  }
  return seconds;
}

/** Starts to watch this process's peak memory anew, where the system can (Linux). */
export function resetPeakMemory(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // elsewhere the peak is that of the whole process
  }
}

/** Most resident memory of this process since `resetPeakMemory`, in MiB. */
export function peakMemoryMib(): number {
  try {
    const kib = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    if (kib) return Number(kib) / 1024;
  } catch {
    // not Linux
  }
  return process.resourceUsage().maxRSS / 1024;
}

/** Latencies as median and 99th percentile, in ms. */
export function latencies(ms: readonly number[]): { p50: number; p99: number; max: number } {
  return { p50: quantile(ms, 0.5), p99: quantile(ms, 0.99), max: quantile(ms, 1) };
}
