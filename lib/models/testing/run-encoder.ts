/**
 * @file Runs an encoder or classifier graph once on the CPU engine, for tests.
 */
import { createEngine, type Engine, type EngineTensor } from "../../engine/index.js";
import type { Graph } from "../../graph/index.js";
import type { EncoderConfig } from "../config.js";
import { type EncoderRow, encoderFeeds } from "../encoder-feeds.js";

/** Runs `graph` over `rows` with these weights and returns every output's elements. */
export async function runEncoder(
  graph: Graph,
  config: EncoderConfig,
  weights: ReadonlyMap<string, Float32Array>,
  rows: readonly EncoderRow[],
): Promise<Record<string, Float32Array>> {
  const engine = await createEngine({ device: "cpu", intraOpThreads: 1 });
  try {
    const program = await engine.compile(graph);
    const outputs = await program.run({
      ...weightFeeds(engine, graph, weights),
      ...rowFeeds(engine, config, rows),
    });
    const entries = Object.entries(outputs).map(
      async ([name, t]) => [name, (await t.read()) as Float32Array] as const,
    );
    return Object.fromEntries(await Promise.all(entries));
  } finally {
    await engine.close();
  }
}

/** Engine tensors of a graph's parameters. */
export function weightFeeds(
  engine: Engine,
  graph: Graph,
  weights: ReadonlyMap<string, Float32Array>,
): Record<string, EngineTensor> {
  return Object.fromEntries(
    graph.parameters.map(({ name = "", shape }) => {
      const values = weights.get(name);
      if (!values) throw new Error(`no weight ${name}`);
      return [name, engine.tensor("float32", shape as number[], values)];
    }),
  );
}

/** Engine tensors of an encoder's inputs for some rows. */
export function rowFeeds(
  engine: Engine,
  config: EncoderConfig,
  rows: readonly EncoderRow[],
): Record<string, EngineTensor> {
  const { batch, time, ...feeds } = encoderFeeds(config, rows);
  const tensors: Record<string, EngineTensor> = {
    input_ids: engine.tensor("int64", [batch, time], feeds.input_ids),
    position_ids: engine.tensor("int64", [batch, time], feeds.position_ids),
    attention_bias: engine.tensor("float32", [batch, 1, 1, time], feeds.attention_bias),
  };
  if (feeds.token_type_ids)
    tensors.token_type_ids = engine.tensor("int64", [batch, time], feeds.token_type_ids);
  return tensors;
}
