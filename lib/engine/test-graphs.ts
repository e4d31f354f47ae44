/**
 * @file Small graphs for the engine's tests.
 */
import { Graph } from "../graph/index.js";

/** c = a · b for float32 matrices [m, k] and [k, n]. */
export function productGraph(): Graph {
  const graph = new Graph("product");
  const a = graph.input("a", "float32", ["m", "k"]);
  const b = graph.input("b", "float32", ["k", "n"]);
  graph.output("c", a.matmul(b));
  return graph;
}

/** weight ← weight − rate · gradient, over [n]; the output is called as the input it may be written over. */
export function descentGraph(): Graph {
  const graph = new Graph("descent");
  const weight = graph.input("weight", "float32", ["n"]);
  const gradient = graph.input("gradient", "float32", ["n"]);
  const rate = graph.input("rate", "float32", []);
  graph.output("weight", weight.sub(gradient.mul(rate)));
  return graph;
}

/** Every element type in and out: embeddings of ids, masked, summed, and through half precision. */
export function typesGraph(): Graph {
  const graph = new Graph("types");
  const table = graph.input("table", "float32", [4, 3]);
  const ids = graph.input("ids", "int64", ["batch", "time"]);
  const mask = graph.input("mask", "bool", ["batch", "time"]);
  const lengths = graph.input("lengths", "int32", ["batch"]);
  const half = graph.input("half", "float16", ["batch"]);
  const rows = table.gather(ids); // [batch, time, 3]
  graph.output("sum", mask.unsqueeze(-1).where(rows, 0).reduceSum([1]));
  graph.output("best", rows.argMax(-1));
  graph.output("kept", mask.not());
  graph.output("double", lengths.add(lengths));
  graph.output("halved", half.cast("float32").mul(0.5).cast("float16"));
  graph.output("flat", rows.reshape([-1])); // [3 * batch * time]: the engine works it out from the inputs
  return graph;
}
