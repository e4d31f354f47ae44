/**
 * @file Random messages of any type, from its descriptor alone, and bytes that are nearly messages: what a client could send that nobody
 * wrote a test for.
 */
import {
  create,
  type DescEnum,
  type DescField,
  type DescMessage,
  type Message,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import fc from "fast-check";

/** How deep messages hold messages. */
const DEPTH = 4;
/** Most elements of a list. */
const LIST = 5;

/** Texts that mean something somewhere, in hope of getting past the first check. */
const TELLING = [
  "",
  "0",
  "1",
  "LABEL_0",
  "LABEL_1",
  "fuzz",
  "../fuzz",
  "/tmp",
  "\u0000",
  "NaN",
  "rlhf",
  "[good]",
];

const text = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...TELLING) },
  { weight: 6, arbitrary: fc.string({ maxLength: 40 }) },
  { weight: 4, arbitrary: fc.string({ unit: "binary", maxLength: 30 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 20_000 }).map((n) => "a b".repeat(n)) },
);

const small32 = fc.integer({ min: -2, max: 40 });
const int32 = fc.oneof(
  { weight: 5, arbitrary: small32 },
  { weight: 1, arbitrary: fc.integer() },
  { weight: 1, arbitrary: fc.constantFrom(-(2 ** 31), 2 ** 31 - 1) },
);
const uint32 = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 0, max: 900 }) },
  { weight: 1, arbitrary: fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1) },
);
const int64 = fc.oneof(
  { weight: 5, arbitrary: fc.bigInt({ min: -2n, max: 40n }) },
  { weight: 1, arbitrary: fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n, 2n ** 53n) },
);
const uint64 = int64.map((value) => BigInt.asUintN(64, value));
const float64 = fc.oneof(
  { weight: 5, arbitrary: fc.double({ min: -1, max: 3, noNaN: true }) },
  { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Infinity, -Infinity, -0, 1e300, 5e-324) },
);

function scalar(type: ScalarType): fc.Arbitrary<unknown> {
  switch (type) {
    case ScalarType.STRING:
      return text;
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.BYTES:
      return fc.uint8Array({ maxLength: 200 });
    case ScalarType.DOUBLE:
      return float64;
    case ScalarType.FLOAT:
      return float64.map(Math.fround);
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return uint32;
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return int64;
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return uint64;
    default:
      return int32;
  }
}

/** A value of the enum, or a number that it does not have. */
const enumeration = ({ values }: DescEnum): fc.Arbitrary<number> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...values.map(({ number }) => number)) },
    { weight: 1, arbitrary: fc.constantFrom(-1, 99, 2 ** 31 - 1) },
  );

function anyValueOf(field: DescField, depth: number): fc.Arbitrary<unknown> {
  const list = (element: fc.Arbitrary<unknown>) => fc.array(element, { maxLength: LIST });
  switch (field.fieldKind) {
    case "scalar":
      return scalar(field.scalar);
    case "enum":
      return enumeration(field.enum);
    case "message":
      return messages(field.message, depth - 1);
    case "list":
      if (field.listKind === "scalar") return list(scalar(field.scalar));
      return list(field.listKind === "enum" ? enumeration(field.enum) : messages(field.message, depth - 1));
    case "map": {
      const value =
        field.mapKind === "scalar"
          ? scalar(field.scalar)
          : field.mapKind === "enum"
            ? enumeration(field.enum)
            : messages(field.message, depth - 1);
      return fc.dictionary(fc.string({ maxLength: 10 }), value, { maxKeys: LIST });
    }
  }
}

/** Messages of a type. */
export function messages(desc: DescMessage, depth = DEPTH): fc.Arbitrary<Message> {
  const plain: Record<string, fc.Arbitrary<unknown>> = {};
  for (const field of desc.fields) {
    const tooDeep = depth <= 0 && (field.message !== undefined || field.fieldKind === "map");
    if (field.oneof || tooDeep) continue;
    plain[field.localName] = fc.option(anyValueOf(field, depth), { nil: undefined, freq: 2 });
  }
  for (const oneof of desc.oneofs) {
    const cases = oneof.fields.map((field) =>
      anyValueOf(field, depth).map((value) => ({ case: field.localName, value })),
    );
    if (depth > 0) plain[oneof.localName] = fc.option(fc.oneof(...cases), { nil: undefined, freq: 8 });
  }
  return fc.record(plain).map((init) => create(desc, withoutUndefined(init) as never));
}

function withoutUndefined(init: object): object {
  return Object.fromEntries(Object.entries(init).filter(([, value]) => value !== undefined));
}

/** Bytes of messages, of messages with a few bytes changed, and of nothing at all. `good` are requests that are accepted as they are. */
export function wires(desc: DescMessage, good: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const random = messages(desc).map((message) => toBinary(desc, message));
  const sound = good.length > 0 ? fc.oneof(random, fc.constantFrom(...good)) : random;
  return fc.oneof(
    { weight: 4, arbitrary: random },
    { weight: 5, arbitrary: mutated(sound) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }) },
  );
}

/** Bytes with a few edits: changed, put in, taken out, doubled, cut off. */
export function mutated(original: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  const edit = fc.record({
    kind: fc.constantFrom("set", "flip", "insert", "delete", "double", "cut"),
    at: fc.nat(),
    byte: fc.nat(255),
    length: fc.integer({ min: 1, max: 12 }),
  });
  return fc.tuple(original, fc.array(edit, { minLength: 1, maxLength: 4 })).map(([bytes, edits]) => {
    let current = Buffer.from(bytes);
    for (const { kind, at, byte, length } of edits) {
      const i = current.length === 0 ? 0 : at % current.length;
      const [head, tail] = [current.subarray(0, i), current.subarray(i)];
      if (kind === "set" && current.length > 0) current[i] = byte;
      else if (kind === "flip" && current.length > 0) current[i] = (current[i] as number) ^ (1 << (byte % 8));
      else if (kind === "insert") current = Buffer.concat([head, Buffer.alloc(length, byte), tail]);
      else if (kind === "delete") current = Buffer.concat([head, tail.subarray(length)]);
      else if (kind === "double") current = Buffer.concat([head, tail.subarray(0, length), tail]);
      else current = Buffer.from(head);
    }
    return current;
  });
}
