import assert from "node:assert/strict";
import fc from "fast-check";
import { DTYPE_RANK, narrow, ownFloat32, widenInto } from "./dtypes.js";

/** Value of a half float from its definition. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const allHalves = Uint16Array.from({ length: 65536 }, (_, i) => i);

describe("element types", () => {
  it("widen every half float to its value", () => {
    const wide = ownFloat32(65536);
    widenInto(wide, 0, "F16", new Uint8Array(allHalves.buffer));
    for (let bits = 0; bits < 65536; bits++)
      assert.ok(Object.is(wide[bits], halfValue(bits)), `half ${bits}`);
  });

  it("narrow what they widened back to the same bits", () => {
    for (const dtype of ["F16", "BF16"] as const) {
      const wide = ownFloat32(65536);
      widenInto(wide, 0, dtype, new Uint8Array(allHalves.buffer));
      const back = narrow(wide, dtype);
      for (let i = 0; i < 65536; i++) {
        if (!Number.isNaN(wide[i]!)) assert.equal(back[i], i, dtype);
        else assert.ok(Number.isNaN(roundTrip(wide[i]!, dtype)));
      }
    }
  });

  it("round to the nearest, ties to even", () => {
    assert.equal(roundTrip(1 + 2 ** -11, "F16"), 1);
    assert.equal(roundTrip(1 + 3 * 2 ** -11, "F16"), 1 + 2 ** -9);
    assert.equal(roundTrip(65519, "F16"), 65504);
    assert.equal(roundTrip(65520, "F16"), Number.POSITIVE_INFINITY);
    assert.equal(roundTrip(2 ** -25, "F16"), 0);
    assert.equal(roundTrip(1.001 * 2 ** -25, "F16"), 2 ** -24);
    assert.equal(roundTrip(1 + 2 ** -8, "BF16"), 1);
    assert.equal(roundTrip(1 + 3 * 2 ** -8, "BF16"), 1 + 2 ** -6);
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -60000, max: 60000 }), (x) => {
        const y = roundTrip(x, "F16");
        assert.ok(Math.abs(x - y) <= Math.max(2 ** -25, Math.abs(x) * 2 ** -11), `${x} became ${y}`);
      }),
      { numRuns: 300 },
    );
  });

  it("round doubles to floats and copy floats", () => {
    const wide = ownFloat32(3);
    widenInto(wide, 0, "F64", new Uint8Array(Float64Array.of(1 / 3).buffer));
    widenInto(wide, 1, "F32", new Uint8Array(Float32Array.of(2.5, -1).buffer));
    assert.deepEqual([...wide], [Math.fround(1 / 3), 2.5, -1]);
  });

  it("keep the format's class order", () => {
    assert.ok(DTYPE_RANK.get("BOOL")! < DTYPE_RANK.get("F16")!);
    assert.ok(DTYPE_RANK.get("F32")! < DTYPE_RANK.get("I64")!);
  });
});

function roundTrip(value: number, dtype: "F16" | "BF16"): number {
  const out = ownFloat32(1);
  widenInto(out, 0, dtype, new Uint8Array(narrow(Float32Array.of(value), dtype).buffer));
  return out[0]!;
}
