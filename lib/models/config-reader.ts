/**
 * @file Reads typed values out of a Hugging Face `config.json`, with defaults and aliases; errors name the key.
 */
import { ModelConfigError } from "./errors.js";

/** A parsed JSON object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Typed access to the keys of one config. A key that is absent or null takes its default. */
export class ConfigReader {
  constructor(readonly json: JsonObject) {}

  /** The first of `keys` that is present and not null, and its value. */
  private find(keys: string | readonly string[]): { key: string; value: unknown } {
    const names = typeof keys === "string" ? [keys] : keys;
    const key = names.find((name) => this.json[name] !== undefined && this.json[name] !== null) ?? names[0];
    return { key, value: this.json[key] ?? undefined };
  }

  /** A whole number from 1 to `max` (default 2³¹ − 1). Without a default the key is required. */
  integer(keys: string | readonly string[], fallback?: number, max = 2 ** 31 - 1): number {
    const { key, value } = this.find(keys);
    const number = value ?? fallback;
    if (typeof number !== "number" || !Number.isSafeInteger(number) || number < 1 || number > max) {
      throw new ModelConfigError(key, value, `a whole number of at least 1 and at most ${max}`);
    }
    return number;
  }

  /** A finite number above 0. */
  positive(key: string, fallback: number): number {
    const { value } = this.find(key);
    const number = value ?? fallback;
    if (typeof number !== "number" || !Number.isFinite(number) || number <= 0) {
      throw new ModelConfigError(key, value, "a number above 0");
    }
    return number;
  }

  boolean(key: string, fallback: boolean): boolean {
    const { value } = this.find(key);
    const flag = value ?? fallback;
    if (typeof flag !== "boolean") throw new ModelConfigError(key, value, "true or false");
    return flag;
  }

  /** One of a fixed set of strings. */
  oneOf<T extends string>(key: string, accepted: readonly T[], fallback: T): T {
    const { value } = this.find(key);
    const choice = value ?? fallback;
    if (!accepted.includes(choice as T)) {
      throw new ModelConfigError(key, value, `one of ${accepted.map((name) => `"${name}"`).join(", ")}`);
    }
    return choice as T;
  }

  /** A token id, or undefined when absent. Negative ids occur in old files and mean "none". */
  tokenId(key: string): number | undefined {
    const { value } = this.find(key);
    if (value === undefined) return undefined;
    const id = Array.isArray(value) ? value[0] : value;
    if (typeof id !== "number" || !Number.isSafeInteger(id))
      throw new ModelConfigError(key, value, "a token id");
    return id < 0 ? undefined : id;
  }

  /** Zero or more token ids, written as one number or a list. */
  tokenIds(key: string): number[] {
    const { value } = this.find(key);
    if (value === undefined) return [];
    const ids = Array.isArray(value) ? value : [value];
    for (const id of ids) {
      if (typeof id !== "number" || !Number.isSafeInteger(id)) {
        throw new ModelConfigError(key, value, "a token id or a list of them");
      }
    }
    return (ids as number[]).filter((id) => id >= 0);
  }

  strings(key: string): string[] {
    const { value } = this.find(key);
    if (value === undefined) return [];
    if (!Array.isArray(value) || value.some((item) => typeof item !== "string")) {
      throw new ModelConfigError(key, value, "a list of strings");
    }
    return value as string[];
  }

  /** Refuses the model unless the key is absent or holds this value, because we do not compute anything else. */
  require(key: string, expected: boolean | string): void {
    const { value } = this.find(key);
    if (value !== undefined && value !== expected) {
      throw new ModelConfigError(key, value, JSON.stringify(expected));
    }
  }
}
