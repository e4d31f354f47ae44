/**
 * @file Resolves a configuration: defaults < file < environment < flags, checked once by one schema.
 * In: a zod schema and the four sources. Out: a frozen object, or ConfigError with every problem found.
 */
import { readFileSync } from "node:fs";
import { extname } from "node:path";
import { parseDocument } from "yaml";
import { z } from "zod";
import { ConfigError } from "./errors.js";
import { isSecretKey, MASK, maskUrl } from "./mask.js";
import { nearestName } from "./nearest.js";
import {
  childOf,
  describeSchema,
  formatPath,
  isRecord,
  knownKeys,
  leaves,
  type Path,
  type Schema,
  schemaAt,
  unwrap,
} from "./schema-walk.js";

/** Where a configuration comes from; a later source wins, key by key (lists are replaced whole). */
export interface ConfigSources {
  /** Values under everything else, besides those of the schema's own `.default()`. */
  defaults?: Record<string, unknown>;
  /** Path of a YAML or JSON file; one that is missing or unreadable is a problem. */
  file?: string;
  /**
   * Environment: `ppo.minibatchSize` is read from `<prefix>PPO_MINIBATCH_SIZE`; lists are JSON or comma-separated.
   * A variable that is nearly, but not quite, a known name is a problem; others of the same prefix are let be.
   */
  env?: { prefix: string; variables?: Record<string, string | undefined> };
  /** Command line: nested objects or dotted keys (`"ppo.gamma": "0.99"`); undefined means not given. */
  flags?: Record<string, unknown>;
}

/** A configuration, and everything in it, that nobody can change. */
export type Frozen<T> = T extends (infer U)[]
  ? readonly Frozen<U>[]
  : T extends object
    ? { readonly [K in keyof T]: Frozen<T[K]> }
    : T;

/**
 * Merges the sources, refuses unknown keys at every level (naming the nearest known one), checks by the schema and
 * freezes the result. Throws ConfigError listing every problem as `path: value → what is accepted (source)`.
 */
export function loadConfig<S extends z.ZodType>(schema: S, sources: ConfigSources): Frozen<z.output<S>> {
  const merge = new Merge(schema);
  if (sources.defaults) merge.add(sources.defaults, "defaults");
  if (sources.file !== undefined) merge.addFile(sources.file);
  if (sources.env) merge.addEnvironment(sources.env.prefix, sources.env.variables ?? process.env);
  if (sources.flags) merge.addFlags(sources.flags);
  return merge.finish() as Frozen<z.output<S>>;
}

/** Like loadConfig for a value that is already there, e.g. one sent to a child process. `name` leads each problem. */
export function parseConfig<S extends z.ZodType>(
  schema: S,
  value: unknown,
  name = "value",
): Frozen<z.output<S>> {
  const merge = new Merge(schema);
  if (!isRecord(value)) throw new ConfigError([`${name}: ${show(value, false)} → an object`]);
  merge.add(value, name);
  return merge.finish() as Frozen<z.output<S>>;
}

/** The environment variable of each leaf of a schema, for help texts: `[["PREFIX_PPO_GAMMA", "ppo.gamma"], …]`. */
export function environmentNames(schema: Schema, prefix: string): [variable: string, path: string][] {
  return leaves(schema).map((leaf) => [variableName(prefix, leaf.path), formatPath(leaf.path)]);
}

class Merge {
  readonly #schema: Schema;
  readonly #document: Record<string, unknown> = {};
  readonly #origin = new Map<string, string>(); // formatted path → source, for the error lines
  readonly #problems: string[] = [];

  constructor(schema: Schema) {
    this.#schema = schema;
  }

  add(values: Record<string, unknown>, source: string): void {
    this.#merge(this.#document, values, this.#schema, [], source);
  }

  addFile(path: string): void {
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (cause) {
      this.#problems.push(`file ${path}: ${(cause as Error).message} → a readable YAML or JSON file`);
      return;
    }
    const parsed = extname(path) === ".json" ? parseJson(text) : parseYaml(text);
    if ("problem" in parsed) this.#problems.push(`file ${path}: ${parsed.problem}`);
    else if (isRecord(parsed.value)) this.add(parsed.value, path);
    else if (parsed.value !== null && parsed.value !== undefined) {
      this.#problems.push(`file ${path}: ${show(parsed.value, false)} → ${describeSchema(this.#schema)}`);
    }
  }

  addEnvironment(prefix: string, variables: Record<string, string | undefined>): void {
    const known = new Map<string, { path: string[]; schema: Schema }>();
    for (const leaf of leaves(this.#schema)) {
      const name = variableName(prefix, leaf.path);
      const other = known.get(name);
      if (other) {
        throw new Error(
          `config schema: ${name} means both ${formatPath(other.path)} and ${formatPath(leaf.path)}`,
        );
      }
      known.set(name, leaf);
    }
    for (const [name, text] of Object.entries(variables)) {
      if (!name.startsWith(prefix) || text === undefined) continue;
      const leaf = known.get(name);
      if (leaf) {
        this.add(nest(leaf.path, fromText(leaf.schema, text)), `environment ${name}`);
        continue;
      }
      const near = nearestName(
        name.slice(prefix.length),
        [...known.keys()].map((key) => key.slice(prefix.length)),
      );
      if (near) this.#problems.push(`${name}: unknown variable → did you mean ${prefix}${near}?`);
    }
  }

  addFlags(flags: Record<string, unknown>): void {
    for (const [key, given] of Object.entries(flags)) {
      if (given === undefined) continue;
      const path = key.split(".");
      const schema = schemaAt(this.#schema, path, this.#document);
      const value = typeof given === "string" && schema ? fromText(schema, given) : given;
      this.add(nest(path, value), `flag ${key}`);
    }
  }

  finish(): unknown {
    const checked = this.#schema.safeParse(this.#document, { error: () => PLAIN, reportInput: true });
    if (!checked.success) for (const issue of checked.error.issues) this.#explain(issue);
    if (this.#problems.length > 0) throw new ConfigError([...new Set(this.#problems)]);
    return deepFreeze(checked.data);
  }

  /** Lays `values` over `target`, refusing keys that the schema does not have. */
  #merge(
    target: Record<string, unknown>,
    values: Record<string, unknown>,
    schema: Schema | undefined,
    path: Path,
    source: string,
  ): void {
    // the union option is chosen by the merged values: a file may name the kind and a flag one of its fields
    const known = schema && knownKeys(schema, { ...target, ...values });
    for (const [key, value] of Object.entries(values)) {
      if (value === undefined) continue;
      const at = [...path, key];
      if (key === "__proto__" || (known && !Object.hasOwn(known, key))) {
        this.#problems.push(unknownKey(at, known ?? {}, source));
        continue;
      }
      const child = schema && childOf(schema, key, { ...target, ...values });
      if (isRecord(value)) {
        const below = isRecord(target[key]) ? target[key] : {};
        target[key] = below;
        this.#merge(below, value, child, at, source);
      } else if (value === null && child && knownKeys(child, undefined) && !unwrap(child).nullable) {
        target[key] ??= {}; // `ppo:` with every line below it commented out
      } else {
        target[key] = Array.isArray(value) ? this.#checkList(value, child, at, source) : value;
        this.#origin.set(formatPath(at), source);
      }
    }
  }

  /** A copy of a list whose objects hold only known keys. */
  #checkList(list: unknown[], schema: Schema | undefined, path: Path, source: string): unknown[] {
    return list.map((item, i) => {
      const at = [...path, i];
      const child = schema && childOf(schema, i, list);
      if (Array.isArray(item)) return this.#checkList(item, child, at, source);
      if (!isRecord(item)) return item;
      const copy = {};
      this.#merge(copy, item, child, at, source);
      return copy;
    });
  }

  /** Turns one zod issue into a line. */
  #explain(issue: z.core.$ZodIssue): void {
    const path = issue.path.map((key) => (typeof key === "number" ? key : String(key)));
    if (issue.code === "unrecognized_keys") {
      const schema = schemaAt(this.#schema, path, this.#document);
      const known = (schema && knownKeys(schema, valueAt(this.#document, path))) ?? {};
      for (const key of issue.keys)
        this.#problems.push(unknownKey([...path, key], known, this.#source(path)));
      return;
    }
    const where = formatPath(path);
    const from = this.#source(path);
    const suffix = from ? ` (${from})` : "";
    if (issue.code === "custom" && issue.message !== PLAIN) {
      this.#problems.push(`${where}: ${issue.message}${suffix}`);
      return;
    }
    const schema = schemaAt(this.#schema, path, this.#document);
    const hidden = (schema !== undefined && unwrap(schema).secret) || isSecretKey(String(path.at(-1) ?? ""));
    const accepted =
      issue.message !== PLAIN ? issue.message : schema ? describeSchema(schema) : (issue.code as string);
    this.#problems.push(`${where}: ${show(valueAt(this.#document, path), hidden)} → ${accepted}${suffix}`);
  }

  /** The source of a value, or of the nearest list or object that holds it. */
  #source(path: Path): string {
    for (let n = path.length; n > 0; n--) {
      const source = this.#origin.get(formatPath(path.slice(0, n)));
      if (source) return source;
    }
    return "";
  }
}

/** Message of issues whose author said nothing: we then describe what the schema accepts. */
const PLAIN = "\u0000";

function unknownKey(path: Path, known: Record<string, Schema>, source: string): string {
  const names = Object.keys(known);
  const near = nearestName(String(path.at(-1)), names);
  const hint = near
    ? `did you mean "${near}"?`
    : names.length > 0
      ? `one of ${names.join(", ")}`
      : "no such key";
  return `${formatPath(path)}: unknown key → ${hint}${source ? ` (${source})` : ""}`;
}

/** `RLHF_PPO_MINIBATCH_SIZE` for prefix `RLHF_` and path `ppo.minibatchSize`. */
function variableName(prefix: string, path: readonly string[]): string {
  const words = path.map((key) => key.replace(/([a-z0-9])([A-Z])/g, "$1_$2").replace(/-/g, "_"));
  return prefix + words.join("_").toUpperCase();
}

/** A text from the environment or the command line as the kind of value that the schema wants; else the text itself. */
function fromText(schema: Schema, text: string): unknown {
  const { base, nullable, accepts } = unwrap(schema);
  if (nullable && text === "null") return null;
  if (accepts) return text; // quantities parse their own text
  if (base instanceof z.ZodNumber) {
    const value = Number(text);
    return text.trim() !== "" && !Number.isNaN(value) ? value : text;
  }
  if (base instanceof z.ZodBoolean) {
    if (/^(true|1|yes|on)$/i.test(text)) return true;
    return /^(false|0|no|off)$/i.test(text) ? false : text;
  }
  if (base instanceof z.ZodLiteral || base instanceof z.ZodEnum) {
    const values: readonly unknown[] = base instanceof z.ZodEnum ? base.options : [...base.values];
    return values.find((value) => String(value) === text) ?? text;
  }
  if (base instanceof z.ZodArray) {
    if (text.trim() === "") return [];
    if (text.trim().startsWith("[")) return jsonOr(text);
    return text.split(",").map((item) => fromText(base.element as Schema, item.trim()));
  }
  if (base instanceof z.ZodUnion) {
    for (const option of base.options as Schema[]) {
      const value = fromText(option, text);
      if (option.safeParse(value).success) return value;
    }
    return text;
  }
  return /^\s*[[{]/.test(text) && !(base instanceof z.ZodString) ? jsonOr(text) : text;
}

function jsonOr(text: string): unknown {
  const parsed = parseJson(text);
  return "problem" in parsed ? text : parsed.value;
}

function parseJson(text: string): { value: unknown } | { problem: string } {
  try {
    return { value: JSON.parse(text) };
  } catch (cause) {
    return { problem: `${(cause as Error).message} → valid JSON` };
  }
}

/** The value of a YAML text, or what is wrong with it: `… → valid YAML`. */
export function parseYaml(text: string): { value: unknown } | { problem: string } {
  const document = parseDocument(text, { prettyErrors: true });
  const error = document.errors[0];
  if (error) return { problem: `${error.message.split("\n")[0].replace(/:$/, "")} → valid YAML` };
  try {
    return { value: document.toJS() };
  } catch (cause) {
    return { problem: `${(cause as Error).message} → valid YAML` };
  }
}

function nest(path: readonly string[], value: unknown): Record<string, unknown> {
  return path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value) as Record<string, unknown>;
}

function valueAt(document: unknown, path: Path): unknown {
  let value = document;
  for (const key of path) {
    if (!isRecord(value) && !Array.isArray(value)) return undefined;
    value = (value as Record<string | number, unknown>)[key];
  }
  return value;
}

/** A value in an error line, short and without secrets. */
function show(value: unknown, hidden: boolean): string {
  if (value === undefined) return "missing";
  if (hidden) return MASK;
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (isRecord(value)) return "an object";
  const text = maskUrl(typeof value === "string" ? JSON.stringify(value) : String(value));
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  for (const item of Object.values(value)) deepFreeze(item);
  return Object.freeze(value);
}
