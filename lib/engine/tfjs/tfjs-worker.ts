/**
 * @file Worker thread of the TensorFlow.js engine: its operators block the thread they are called on.
 */
import type * as tfjs from "@tensorflow/tfjs";
import type { DType } from "../../graph/index.js";
import { dtypeInfo } from "../dtypes.js";
import type { WorkerValueSpec } from "../worker/messages.js";
import { type PrivateTensor, serve, type WorkerBackend } from "../worker/serve.js";
import { fromTf, toTf } from "./host-data.js";
import { Interpreter } from "./interpreter.js";
import { type LoadedTfjs, loadTfjs, type TfjsBackend, tfjsBackends } from "./load.js";
import type { GraphPlan, PlanInput } from "./plan.js";

interface Compiled {
  interpreter: Interpreter;
  plan: GraphPlan;
}

let library: LoadedTfjs;
const programs = new Map<number, Compiled>();
/** What was fed last, by tensor id: on a GPU this is the copy that stays there. */
const fed = new Map<number, tfjs.Tensor>();

const backend: WorkerBackend<GraphPlan> = {
  async start({ device, backend: wanted }) {
    const anyOf = wanted === undefined ? tfjsBackends : [wanted as TfjsBackend];
    library = await loadTfjs(device === "cuda" ? anyOf.filter((name) => name === "tensorflow-gpu") : anyOf);
    return {
      name: `tfjs ${library.tf.version.tfjs} (${library.backend}, ${library.device})`,
      device: library.device,
    };
  },

  async compile({ program, model }) {
    programs.set(program, { interpreter: new Interpreter(library.tf, model), plan: model });
    return { inputs: model.inputs.map(toSpec), outputs: model.outputs.map(toSpec) };
  },

  async run(program, feeds) {
    const compiled = programs.get(program);
    if (compiled === undefined) throw new Error("this program was released");
    const values = Object.entries(feeds).map(([name, feed]) => [name, toTensor(feed)] as const);
    const results = compiled.interpreter.run(Object.fromEntries(values));
    return results.map((result, i) => {
      const { dtype } = compiled.plan.outputs[i];
      const data = fromTf(dtype, result);
      const dims = [...result.shape];
      result.dispose();
      return { dtype, dims, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
    });
  },

  async releaseProgram(program) {
    programs.get(program)?.interpreter.release();
    programs.delete(program);
  },

  forget(id) {
    fed.get(id)?.dispose();
    fed.delete(id);
  },
};

function toSpec({ name, dtype, shape }: PlanInput): WorkerValueSpec {
  return { name, type: dtype, dims: shape };
}

/** The fed tensor; made again only when its bytes changed. */
function toTensor({ id, dtype, dims, bytes, unchanged }: PrivateTensor): tfjs.Tensor {
  const known = fed.get(id);
  if (unchanged && known !== undefined) return known;
  known?.dispose();
  const info = dtypeInfo(dtype);
  const data = new info.array(bytes.buffer, bytes.byteOffset, bytes.byteLength / info.bytes);
  const tensor = toTf(library.tf, dtype as DType, dims, data);
  fed.set(id, tensor);
  return tensor;
}

serve(backend);
