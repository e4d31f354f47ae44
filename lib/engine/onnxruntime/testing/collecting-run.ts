/**
 * @file Child process of collected-arrays.test.ts: runs a program over and over, and once the path to the library is compiled collects
 * garbage right before each call. Writes how many runs failed, and how. Needs node's --expose-gc.
 */
import { Graph } from "../../../graph/index.js";
import { OrtApi } from "../c-api.js";
import { createOrtEngine } from "../engine.js";

const collect = (globalThis as { gc?: (options: { type: "minor" }) => void }).gc;
if (!collect) throw new Error("run with --expose-gc");

/** Runs before garbage is collected on purpose: V8 compiles meanwhile, and then keeps no array past its last use. */
const WARM_UPS = [300, 500, 1000];
const RUNS = 100;

let armed = false;
const { out, addressOf } = OrtApi.prototype;
OrtApi.prototype.out = function (this: OrtApi, ...args) {
  if (armed) collect({ type: "minor" });
  return out.apply(this, args);
};
OrtApi.prototype.addressOf = function (this: OrtApi, data) {
  const address = addressOf.call(this, data);
  if (armed) collect({ type: "minor" });
  return address;
};

const engine = await createOrtEngine({ intraOpThreads: 1 });
const graph = new Graph("increment");
graph.output("y", graph.input("x", "float32", ["batch", 4, "time", 32]).add(1));
const program = await engine.compile(graph);
const failures: string[] = [];

async function once(): Promise<void> {
  const x = engine.tensor("float32", [2, 4, 3, 32]);
  const y = engine.tensor("float32", [2, 4, 3, 32]);
  try {
    await program.run({ x }, { y }); // a shape that was overwritten does not fit the memory
  } catch (error) {
    failures.push((error as Error).message);
  }
  x.release();
  y.release();
}

let runs = 0;
for (const warmUp of WARM_UPS) {
  for (let i = 0; i < warmUp + RUNS; i++) {
    armed = i >= warmUp;
    await once();
    runs += 1;
  }
  armed = false;
}
process.stdout.write(JSON.stringify({ runs, failures: failures.length, first: failures[0] ?? "" }));
program.release();
await engine.close();
