/**
 * @file Bounds of time on a machine that others use too. The full form takes them as they are; the short form, which runs wherever
 * tests run, stretches them by what it measures of the neighbours in the same run, and says so loudly.
 */
import { NeighbourWatch } from "./process-facts.js";
import { scale } from "./scale.js";

/** Cores of others' work that no bound is stretched for. */
const QUIET_CORES = 0.15;
/** By how much a bound grows for each core that others use: a thread that waits for its turn waits for several others'. */
const STRETCH_PER_CORE = 10;

/** What a run may ask of its bounds. */
export interface Patience {
  /** Cores that others used. */
  readonly foreignCores: number;
  /** 1 on a quiet machine and in the full form. */
  readonly factor: number;
}

/** Runs `work` and measures the neighbours meanwhile. */
export async function withPatience<T>(work: () => Promise<T>): Promise<{ result: T; patience: Patience }> {
  const watch = new NeighbourWatch();
  let foreignCores = 0;
  const result = await work().finally(() => {
    foreignCores = watch.stop();
  });
  const factor = scale.full || foreignCores < QUIET_CORES ? 1 : 1 + STRETCH_PER_CORE * foreignCores;
  if (factor > 1) {
    const by = `${factor.toFixed(1)} times`;
    console.log(`      !! others used ${foreignCores.toFixed(2)} cores: bounds of time are ${by} as long`);
  } else if (foreignCores >= QUIET_CORES) {
    console.log(
      `      !! others used ${foreignCores.toFixed(2)} cores: the full form stretches no bound for it`,
    );
  }
  return { result, patience: { foreignCores, factor } };
}
