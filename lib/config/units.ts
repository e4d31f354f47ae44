/**
 * @file Durations and sizes as people write them (`250ms`, `10s`, `512KiB`) to the numbers code uses (ms, bytes).
 * The schemas `duration()` and `bytes()` accept a plain number too, which is taken as milliseconds or bytes.
 */
import { z } from "zod";

const MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 };

const BYTES: Record<string, number> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
};

/** Limits of a duration (ms) or a size (bytes), both inclusive. */
export interface UnitRange {
  /** Smallest accepted number; default 0. */
  min?: number;
  /** Largest accepted number; default: none. */
  max?: number;
}

/** Milliseconds of `"250ms"`, `"10s"`, `"5m"`, `"1h30m"`, `"2d"`, or undefined when the text is no duration. */
export function parseDuration(text: string): number | undefined {
  const parts = text.trim().toLowerCase();
  if (!/^(\d+(\.\d+)?\s*(ms|s|min|m|h|d)\s*)+$/.test(parts)) return undefined;
  let total = 0;
  for (const [, count, unit] of parts.matchAll(/(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)/g)) {
    total += Number(count) * MS[unit];
  }
  return total;
}

/** Bytes of `"512KiB"`, `"16 MB"`, `"2GiB"`, `"100B"`, or undefined when the text is no size. K is 1000, Ki is 1024. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?i?b)$/.exec(text.trim().toLowerCase());
  if (!match || BYTES[match[2]] === undefined) return undefined;
  return Math.round(Number(match[1]) * BYTES[match[2]]);
}

/** A duration for people: 250 → `250 ms`, 90000 → `1.5 min`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${round(ms)} ms`;
  if (ms < 60_000) return `${round(ms / 1000)} s`;
  if (ms < 3_600_000) return `${round(ms / 60_000)} min`;
  return `${round(ms / 3_600_000)} h`;
}

/** A size for people, in binary units: 524288 → `512 KiB`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${round(value)} ${units[unit]}`;
}

/** Schema of a duration: a number of milliseconds or text such as `10s`; the parsed value is milliseconds. */
export function duration(range: UnitRange = {}) {
  return quantity("a duration such as 250ms, 10s or 5m", parseDuration, formatDuration, range);
}

/** Schema of a size: a number of bytes or text such as `512KiB`; the parsed value is bytes, whole. */
export function bytes(range: UnitRange = {}) {
  return quantity("a size such as 512KiB, 16MB or 2GiB", parseBytes, formatBytes, range);
}

function quantity(
  what: string,
  parse: (text: string) => number | undefined,
  format: (value: number) => string,
  { min = 0, max = Number.POSITIVE_INFINITY }: UnitRange,
) {
  const limits = [
    min > 0 ? `at least ${format(min)}` : "",
    Number.isFinite(max) ? `at most ${format(max)}` : "",
  ].filter(Boolean);
  const accepts = limits.length > 0 ? `${what}, ${limits.join(" and ")}` : what;
  return z
    .union([z.number(), z.string()])
    .transform((given, context) => {
      // a bare number in text comes from the environment or a flag: same meaning as a number in the file
      const plain = typeof given === "number" ? given : given.trim() === "" ? Number.NaN : Number(given);
      const value = Number.isFinite(plain) ? plain : typeof given === "string" ? parse(given) : undefined;
      if (value === undefined || value < min || value > max) {
        context.issues.push({ code: "custom", input: given }); // the message comes from `accepts` below
        return z.NEVER;
      }
      return value;
    })
    .meta({ accepts });
}

/** At most three digits after the point, without trailing zeros. */
function round(value: number): string {
  return String(Math.round(value * 1000) / 1000);
}
