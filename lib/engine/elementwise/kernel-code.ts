/**
 * @file Writes a plan as WebAssembly: one loop over four elements at a time, one over what is left, every element read once and written
 * once. IEEE float32 throughout, so results are those of the operators one by one; sums are kept in float64. Pure.
 */
import type { ElementwisePlan, KernelOp } from "./plan.js";
import {
  branch,
  branchIf,
  F32,
  F64,
  f32Const,
  f32Load,
  f32Store,
  f64x2ExtractLane,
  highHalf,
  I32,
  i32Const,
  localGet,
  localSet,
  OPCODE,
  V128,
  v128Load,
  v128Store,
  wasmModule,
} from "./wasm.js";
import { MAX_PAGES } from "./webassembly.js";

const NAME: Readonly<Record<KernelOp, "abs" | "neg" | "sqrt" | "add" | "sub" | "mul" | "div">> = {
  Abs: "abs",
  Neg: "neg",
  Sqrt: "sqrt",
  Add: "add",
  Sub: "sub",
  Mul: "mul",
  Div: "div",
};

/** Bytes of an element. */
const BYTES = 4;

/** How many elements one turn of a loop takes. */
interface Width {
  readonly lanes: 1 | 4;
  readonly load: readonly number[];
  readonly store: readonly number[];
  readonly op: (op: KernelOp) => readonly number[];
  /** A float32 on the stack becomes a value of this width. */
  readonly spread: readonly number[];
}

const FOUR: Width = {
  lanes: 4,
  load: v128Load,
  store: v128Store,
  op: (op) => OPCODE[`f32x4.${NAME[op]}`],
  spread: OPCODE["f32x4.splat"],
};

const ONE: Width = {
  lanes: 1,
  load: f32Load,
  store: f32Store,
  op: (op) => OPCODE[`f32.${NAME[op]}`],
  spread: [],
};

/**
 * The module of a plan. Its function `run` takes the byte addresses of input vectors, then of output vectors, the number of elements
 * (i32 each), then the scalars (f32), and returns one float64 a sum.
 */
export function kernelCode(plan: ElementwisePlan): Uint8Array {
  const { vectors, scalars, steps, outputs, sums } = plan;
  let next = 0;
  const local = () => next++;
  const address = { in: vectors.map(local), out: outputs.map(local) };
  const count = local();
  const scalar = scalars.map(local);
  // offset and end in bytes, then a value of either width for each step, then halves of each sum and the sum
  const offset = local();
  const end = local();
  const values = { 4: steps.map(local), 1: steps.map(local) };
  const halves = sums.map(local);
  const totals = sums.map(local);

  const at = (pointer: number) => [...localGet(pointer), ...localGet(offset), ...OPCODE["i32.add"]];

  /** Values that are the same for all elements. */
  const settle = ({ lanes, spread }: Width): number[] =>
    steps.flatMap((step, i) => {
      if (step.kind === "scalar")
        return [...localGet(scalar[step.input]), ...spread, ...localSet(values[lanes][i])];
      if (step.kind === "constant")
        return [...f32Const(step.value), ...spread, ...localSet(values[lanes][i])];
      return [];
    });

  const compute = ({ lanes, load, op }: Width): number[] =>
    steps.flatMap((step, i) => {
      const set = localSet(values[lanes][i]);
      if (step.kind === "vector") return [...at(address.in[step.input]), ...load, ...set];
      if (step.kind !== "op") return [];
      return [
        ...step.operands.flatMap((operand) => localGet(values[lanes][operand])),
        ...op(step.op),
        ...set,
      ];
    });

  const write = ({ lanes, store }: Width): number[] =>
    outputs.flatMap(({ step }, i) => [...at(address.out[i]), ...localGet(values[lanes][step]), ...store]);

  const addFour = (): number[] =>
    sums.flatMap(({ step }, i) => [
      ...localGet(halves[i]),
      ...localGet(values[4][step]),
      ...OPCODE["f64x2.promote_low_f32x4"],
      ...highHalf(values[4][step]),
      ...OPCODE["f64x2.promote_low_f32x4"],
      ...OPCODE["f64x2.add"],
      ...OPCODE["f64x2.add"],
      ...localSet(halves[i]),
    ]);
  const addOne = (): number[] =>
    sums.flatMap(({ step }, i) => [
      ...localGet(totals[i]),
      ...localGet(values[1][step]),
      ...OPCODE["f64.promote_f32"],
      ...OPCODE["f64.add"],
      ...localSet(totals[i]),
    ]);
  const joinHalves = sums.flatMap((_, i) => [
    ...localGet(halves[i]),
    ...f64x2ExtractLane(0),
    ...localGet(halves[i]),
    ...f64x2ExtractLane(1),
    ...OPCODE["f64.add"],
    ...localSet(totals[i]),
  ]);

  /** Turns until `end`. All of a turn is read before any of it is written, so an output may lie over an input. */
  const loop = (width: Width, add: () => number[]): number[] => [
    ...settle(width),
    ...OPCODE.block,
    ...OPCODE.loop,
    ...[...localGet(offset), ...localGet(end), ...OPCODE["i32.ge_u"], ...branchIf(1)],
    ...compute(width),
    ...write(width),
    ...add(),
    ...[...localGet(offset), ...i32Const(width.lanes * BYTES), ...OPCODE["i32.add"], ...localSet(offset)],
    ...branch(0),
    ...OPCODE.end,
    ...OPCODE.end,
  ];
  const setEnd = (elements: readonly number[]) => [
    ...elements,
    ...i32Const(Math.log2(BYTES)),
    ...OPCODE["i32.shl"],
    ...localSet(end),
  ];
  const body = [
    ...setEnd([...localGet(count), ...i32Const(-4), ...OPCODE["i32.and"]]), // −4 clears the two lowest bits
    ...loop(FOUR, addFour),
    ...joinHalves,
    ...setEnd(localGet(count)),
    ...loop(ONE, addOne),
    ...totals.flatMap(localGet),
  ];
  return wasmModule(
    {
      parameters: [...vectors, ...outputs, 0].map(() => I32).concat(scalars.map(() => F32)),
      results: sums.map(() => F64),
      locals: [
        I32,
        I32,
        ...steps.map(() => V128),
        ...steps.map(() => F32),
        ...sums.map(() => V128),
        ...sums.map(() => F64),
      ],
      body,
    },
    MAX_PAGES,
  );
}
