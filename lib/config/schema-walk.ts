/**
 * @file Reads a zod schema as a tree: the names it has, what each accepts, which are secret.
 * In: a schema built with zod 4. Out: leaves for environment names, descriptions for error lines. Pure.
 */
import { z } from "zod";

/** Any zod schema, whatever it parses to. */
export type Schema = z.ZodType;

/** One place in a document: keys and array indices from the root. */
export type Path = readonly (string | number)[];

/** A schema without its wrappers (optional, default, transform …) and what the wrappers said. */
export interface Unwrapped {
  /** The innermost schema that decides the kind of value. */
  base: Schema;
  /** True when the value must never be printed. */
  secret: boolean;
  /** True when null is a valid value. */
  nullable: boolean;
  /** What is accepted, when the author of the schema said it in `.meta({ accepts })`. */
  accepts?: string;
}

/** `ppo.terms[2].weight` for `["ppo", "terms", 2, "weight"]`. */
export function formatPath(path: Path): string {
  let text = "";
  for (const key of path) text += typeof key === "number" ? `[${key}]` : text === "" ? key : `.${key}`;
  return text === "" ? "(top level)" : text;
}

/** Removes wrappers until the schema that decides the kind of value. */
export function unwrap(schema: Schema): Unwrapped {
  const result: Unwrapped = { base: schema, secret: false, nullable: false };
  for (;;) {
    const meta = result.base.meta() as { secret?: boolean; accepts?: string } | undefined;
    if (meta?.secret) result.secret = true;
    if (meta?.accepts && !result.accepts) result.accepts = meta.accepts;
    const base = result.base;
    if (base instanceof z.ZodNullable) result.nullable = true;
    const inner = innerOf(base);
    if (!inner) return result;
    result.base = inner;
  }
}

function innerOf(schema: Schema): Schema | undefined {
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodNonOptional ||
    schema instanceof z.ZodReadonly ||
    schema instanceof z.ZodCatch
  ) {
    return schema.def.innerType as Schema;
  }
  if (schema instanceof z.ZodLazy) return schema.def.getter() as Schema;
  if (schema instanceof z.ZodPipe) {
    // z.preprocess puts the transform first, .transform() puts it last: the other half says what is accepted
    const first = schema.def.in as Schema;
    return first instanceof z.ZodTransform ? (schema.def.out as Schema) : first;
  }
  return undefined;
}

/** The keys an object schema knows, or undefined when it accepts any key (records, loose objects, no object at all). */
export function knownKeys(schema: Schema, value: unknown): Record<string, Schema> | undefined {
  const { base } = unwrap(schema);
  if (base instanceof z.ZodObject) {
    const rest = base.def.catchall;
    return rest && !(rest instanceof z.ZodNever) ? undefined : (base.shape as Record<string, Schema>);
  }
  if (base instanceof z.ZodIntersection) {
    const left = knownKeys(base.def.left as Schema, value);
    const right = knownKeys(base.def.right as Schema, value);
    return left && right ? { ...left, ...right } : undefined;
  }
  if (base instanceof z.ZodUnion) {
    const shapes = chooseOptions(base, value).map((option) => knownKeys(option, value));
    const known = shapes.filter((shape) => shape !== undefined);
    if (known.length === 0) return undefined;
    return Object.assign({}, ...known);
  }
  return undefined;
}

/** The options of a union that a value may mean: by discriminator where there is one, else those of its kind. */
function chooseOptions(union: z.ZodUnion, value: unknown): Schema[] {
  const options = union.options as Schema[];
  if (union instanceof z.ZodDiscriminatedUnion && isRecord(value)) {
    const key = union.def.discriminator;
    const named = options.filter((option) => {
      const field = knownKeys(option, value)?.[key];
      return field?.safeParse(value[key]).success === true;
    });
    if (named.length > 0) return named;
  }
  return options;
}

/** The schema at a path of a given document, or undefined where the schema does not say. */
export function schemaAt(schema: Schema, path: Path, document: unknown): Schema | undefined {
  let at: Schema | undefined = schema;
  let value = document;
  for (const key of path) {
    if (!at) return undefined;
    at = childOf(at, key, value);
    value =
      isRecord(value) || Array.isArray(value) ? (value as Record<string | number, unknown>)[key] : undefined;
  }
  return at;
}

/** The schema of one key or element below `schema`; `value` helps to choose among the options of a union. */
export function childOf(schema: Schema, key: string | number, value: unknown): Schema | undefined {
  const { base } = unwrap(schema);
  if (base instanceof z.ZodArray) return base.element as Schema;
  if (base instanceof z.ZodTuple) {
    return (base.def.items[Number(key)] ?? base.def.rest ?? undefined) as Schema | undefined;
  }
  if (base instanceof z.ZodRecord) return base.valueType as Schema;
  if (base instanceof z.ZodUnion) {
    const children = chooseOptions(base, value).flatMap((option) => childOf(option, key, value) ?? []);
    return children.length > 1 ? z.union(children) : children[0];
  }
  return knownKeys(base, value)?.[String(key)];
}

/** Every named leaf of a schema (a leaf is anything that is not an object with known keys), in schema order. */
export function leaves(schema: Schema, path: string[] = []): { path: string[]; schema: Schema }[] {
  const shape = knownKeys(schema, undefined);
  if (!shape) return path.length > 0 ? [{ path, schema }] : [];
  const found = Object.entries(shape).flatMap(([key, child]) => leaves(child, [...path, key]));
  return found;
}

/** What a schema accepts, in words: `a whole number from 1 to 64`, `one of "cpu", "cuda"`. */
export function describeSchema(schema: Schema): string {
  const { base, accepts, nullable } = unwrap(schema);
  return `${accepts ?? describeBase(base)}${nullable ? " or null" : ""}`;
}

function describeBase(base: Schema): string {
  if (base instanceof z.ZodNumber) {
    const whole = base.isInt;
    // .int() limits to the safe integers, which is not worth saying
    const limit = (value: number | null) =>
      value !== null && Math.abs(value) < Number.MAX_SAFE_INTEGER ? value : undefined;
    return `${whole ? "a whole number" : "a number"}${describeRange(base, limit(base.minValue), limit(base.maxValue))}`;
  }
  if (base instanceof z.ZodString) {
    const { minLength, maxLength } = base;
    if (minLength === 1 && maxLength === null) return "text that is not empty";
    const from = minLength === null ? "" : ` of at least ${minLength}`;
    const to = maxLength === null ? "" : `${from ? " and" : " of"} at most ${maxLength}`;
    return `text${from}${to}${from || to ? " characters" : ""}`;
  }
  if (base instanceof z.ZodStringFormat) return `text in the form "${base.format}"`;
  if (base instanceof z.ZodBoolean) return "true or false";
  if (base instanceof z.ZodEnum) return oneOf(base.options);
  if (base instanceof z.ZodLiteral) return oneOf([...base.values]);
  if (base instanceof z.ZodArray) return `a list of: ${describeSchema(base.element as Schema)}`;
  if (base instanceof z.ZodRecord) return `names with: ${describeSchema(base.valueType as Schema)}`;
  if (base instanceof z.ZodObject) return `an object with ${Object.keys(base.shape).join(", ")}`;
  if (base instanceof z.ZodUnion) {
    const options = base.options as Schema[];
    const literals = options
      .map((option) => unwrap(option).base)
      .filter((option) => option instanceof z.ZodLiteral);
    if (literals.length === options.length) return oneOf(literals.flatMap((literal) => [...literal.values]));
    return [...new Set(options.map(describeSchema))].join(", or ");
  }
  return `a value of kind "${base.def.type}"`;
}

function describeRange(schema: z.ZodNumber, min: number | undefined, max: number | undefined): string {
  const open = (value: number | undefined) => value !== undefined && !schema.safeParse(value).success;
  // an end that the schema itself refuses is exclusive (a fractional step can refuse it too: still not accepted)
  if (min !== undefined && max !== undefined && !open(min) && !open(max)) return ` from ${min} to ${max}`;
  const from = min === undefined ? "" : open(min) ? ` greater than ${min}` : ` of at least ${min}`;
  const to = max === undefined ? "" : open(max) ? ` less than ${max}` : ` of at most ${max}`;
  return from && to ? `${from} and${to}` : from + to;
}

function oneOf(values: readonly unknown[]): string {
  const words = values.map((value) => JSON.stringify(value) ?? String(value));
  return words.length === 1 ? words[0] : `one of ${words.join(", ")}`;
}

/** True for an object with keys, as JSON and YAML make them. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
