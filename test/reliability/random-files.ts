/** @file Damaged files: JSON with odd values in odd places, text and bytes with a few edits. */
import fc from "fast-check";
import { mutated } from "./random-messages.js";

/** Values that nobody expects where they will stand. */
const ODD: readonly unknown[] = [
  null,
  true,
  "",
  "x",
  "\u0000",
  0,
  -1,
  1.5,
  2,
  7,
  1e9,
  2 ** 53,
  1e308,
  [],
  [0],
  {},
  { a: 1 },
];

/** A JSON document as text, with one to three values replaced, removed or doubled, or a few characters changed. */
export function damagedJson(document: unknown): fc.Arbitrary<string> {
  const edit = fc.record({
    at: fc.nat(),
    kind: fc.constantFrom("odd", "remove", "swap", "repeat"),
    odd: fc.constantFrom(...ODD),
    other: fc.nat(),
  });
  const structural = fc.array(edit, { minLength: 1, maxLength: 3 }).map((edits) => {
    const copy = structuredClone(document);
    for (const { at, kind, odd, other } of edits) {
      const places = placesOf(copy);
      const place = places[at % places.length];
      if (!place) continue;
      const { parent, key } = place;
      const second = places[other % places.length];
      if (kind === "remove") delete (parent as Record<string, unknown>)[key];
      else if (kind === "swap" && second) parent[key] = structuredClone(second.parent[second.key]) as never;
      else if (kind === "repeat" && Array.isArray(parent)) parent.push(...structuredClone(parent));
      else parent[key] = structuredClone(odd);
    }
    return JSON.stringify(copy);
  });
  const textual = mutated(fc.constant(Buffer.from(JSON.stringify(document)))).map((bytes) =>
    Buffer.from(bytes).toString("latin1"),
  );
  return fc.oneof({ weight: 4, arbitrary: structural }, { weight: 1, arbitrary: textual });
}

interface Place {
  readonly parent: Record<string | number, unknown>;
  readonly key: string | number;
}

/** Most places looked at: of a long vocabulary a few are enough. */
const MOST_PLACES = 2000;

/** Every value of a document: where it hangs. Values nearer to the root come first. */
function placesOf(document: unknown): Place[] {
  const places: Place[] = [];
  let level: unknown[] = [document];
  while (level.length > 0 && places.length < MOST_PLACES) {
    const next: unknown[] = [];
    for (const value of level) {
      if (typeof value !== "object" || value === null) continue;
      const entries = Object.entries(value).slice(0, 50);
      for (const [key, child] of entries) {
        places.push({ parent: value as Place["parent"], key });
        next.push(child);
      }
    }
    level = next;
  }
  return places;
}

/** A safetensors file with a few bytes changed, a damaged header, or a header of another length. */
export function damagedSafetensors(file: Buffer): fc.Arbitrary<Buffer> {
  const length = Number(file.readBigUInt64LE(0));
  const header: unknown = JSON.parse(file.subarray(8, 8 + length).toString());
  const body = file.subarray(8 + length);
  const withHeader = (text: string, stated = BigInt(Buffer.byteLength(text))) => {
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt.asUintN(64, stated));
    return Buffer.concat([size, Buffer.from(text), body]);
  };
  const stated = fc.constantFrom(0n, 1n, 8n, 2n ** 31n, 2n ** 53n, 2n ** 63n, -1n);
  return fc.oneof(
    mutated(fc.constant(file)).map((bytes) => Buffer.from(bytes)),
    damagedJson(header).map((text) => withHeader(text)),
    stated.map((size) => withHeader(JSON.stringify(header), size)),
  );
}
