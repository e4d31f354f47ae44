/**
 * @file One run of a compiled graph over the weights of a model and arrays of the host; results come back as arrays.
 */
import type { Engine, EngineData, EngineDType, EngineTensor, Program } from "../../../lib/engine/index.js";
import type { ParameterBuffer } from "./parameter-store.js";

/** An array on its way into a program. */
export interface HostFeed {
  readonly dtype: EngineDType;
  readonly dims: readonly number[];
  readonly data: EngineData;
}

/**
 * Runs a program over weights of `weights` and arrays of the host. Outputs named in `into` are written there; the others are
 * read back as float32 and released.
 */
export async function runProgram(
  engine: Engine,
  program: Program,
  weights: ParameterBuffer,
  feeds: Readonly<Record<string, HostFeed>>,
  into: Readonly<Record<string, EngineTensor>> = {},
): Promise<Record<string, Float32Array>> {
  const made: EngineTensor[] = [];
  const inputs = Object.fromEntries(
    program.inputNames.map((name) => {
      const feed = feeds[name];
      if (!feed) return [name, weights.view(name)];
      const tensor = engine.tensor(feed.dtype, feed.dims, feed.data);
      made.push(tensor);
      return [name, tensor];
    }),
  );
  try {
    const outputs = await program.run(inputs, into);
    const fresh = Object.entries(outputs).filter(([name]) => !into[name]);
    made.push(...fresh.map(([, tensor]) => tensor));
    const read = fresh.map(async ([name, tensor]) => [name, (await tensor.read()) as Float32Array] as const);
    return Object.fromEntries(await Promise.all(read));
  } finally {
    for (const tensor of made) tensor.release();
  }
}
