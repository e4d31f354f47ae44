/**
 * @file The WebAssembly binary format, as far as fused kernels need it: one imported memory, one exported function
 * (WebAssembly Core Specification 2.0, chapter 5). Pure.
 */

/** Value types. */
export const I32 = 0x7f;
export const F32 = 0x7d;
export const F64 = 0x7c;
export const V128 = 0x7b;

/** Instructions without operands of their own, by their text names. */
export const OPCODE = {
  end: [0x0b],
  block: [0x02, 0x40],
  loop: [0x03, 0x40],
  "i32.ge_u": [0x4f],
  "i32.add": [0x6a],
  "i32.and": [0x71],
  "i32.shl": [0x74],
  "f32.abs": [0x8b],
  "f32.neg": [0x8c],
  "f32.sqrt": [0x91],
  "f32.add": [0x92],
  "f32.sub": [0x93],
  "f32.mul": [0x94],
  "f32.div": [0x95],
  "f64.add": [0xa0],
  "f64.promote_f32": [0xbb],
  "f32x4.splat": [0xfd, 0x13],
  "f32x4.abs": [0xfd, 0xe0, 0x01],
  "f32x4.neg": [0xfd, 0xe1, 0x01],
  "f32x4.sqrt": [0xfd, 0xe3, 0x01],
  "f32x4.add": [0xfd, 0xe4, 0x01],
  "f32x4.sub": [0xfd, 0xe5, 0x01],
  "f32x4.mul": [0xfd, 0xe6, 0x01],
  "f32x4.div": [0xfd, 0xe7, 0x01],
  "f64x2.add": [0xfd, 0xf0, 0x01],
  "f64x2.promote_low_f32x4": [0xfd, 0x5f],
} as const satisfies Record<string, readonly number[]>;

/** An unsigned number in LEB128. */
export function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) | 0x80);
  }
}

/** A small signed number in LEB128: −64 to 63. */
const small = (value: number): number[] => [value & 0x7f];

/** Instructions with operands. */
export const localGet = (index: number): number[] => [0x20, ...unsigned(index)];
export const localSet = (index: number): number[] => [0x21, ...unsigned(index)];
export const i32Const = (value: number): number[] => [0x41, ...small(value)];
export const branch = (depth: number): number[] => [0x0c, depth];
export const branchIf = (depth: number): number[] => [0x0d, depth];
/** Loads and stores, of elements that lie at multiples of 4 bytes. */
export const f32Load = [0x2a, 2, 0];
export const f32Store = [0x38, 2, 0];
export const v128Load = [0xfd, 0x00, 2, 0];
export const v128Store = [0xfd, 0x0b, 2, 0];
/** One of the two halves of a f64x2. */
export const f64x2ExtractLane = (lane: 0 | 1): number[] => [0xfd, 0x21, lane];

export function f32Const(value: number): number[] {
  return [0x43, ...new Uint8Array(Float32Array.of(value).buffer)];
}

/** Lanes 2 and 3 of the f32x4 on the stack, in lanes 0 and 1. */
export const highHalf = (value: number): number[] => [
  ...localGet(value),
  ...localGet(value),
  ...[0xfd, 0x0d, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15],
];

/** A function: its types, its locals beyond the parameters, and its instructions without the final `end`. */
export interface WasmFunction {
  readonly parameters: readonly number[];
  readonly results: readonly number[];
  readonly locals: readonly number[];
  readonly body: readonly number[];
}

/** A module that imports the shared memory `env.memory` and exports the function as `run`. */
export function wasmModule(
  { parameters, results, locals, body }: WasmFunction,
  maxPages: number,
): Uint8Array {
  const code = [...counted(locals.map((type) => [1, type])), ...body, ...OPCODE.end];
  const SHARED_WITH_MAXIMUM = 0x03;
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // magic, version 1
    ...section(1, counted([[0x60, ...counted(parameters.map(byte)), ...counted(results.map(byte))]])),
    ...section(
      2,
      counted([[...text("env"), ...text("memory"), 0x02, SHARED_WITH_MAXIMUM, 1, ...unsigned(maxPages)]]),
    ),
    ...section(3, counted([[0]])),
    ...section(7, counted([[...text("run"), 0x00, 0]])),
    ...section(10, counted([[...unsigned(code.length), ...code]])),
  ]);
}

const byte = (value: number): number[] => [value];
const counted = (items: readonly (readonly number[])[]): number[] => [
  ...unsigned(items.length),
  ...items.flat(),
];
const text = (name: string): number[] => [...unsigned(name.length), ...Buffer.from(name)];
const section = (id: number, content: readonly number[]): number[] => [
  id,
  ...unsigned(content.length),
  ...content,
];
