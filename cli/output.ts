/**
 * @file What `rlhf` prints: results to stdout (a table or, with --json, one JSON value), progress and warnings to stderr.
 */
import { styleText } from "node:util";

/** How a command prints. */
export interface Output {
  /** True: one JSON value per result on stdout, nothing else there. */
  readonly json: boolean;
  /** A line for people. Not printed with --json. */
  say(line?: string): void;
  /** A warning; goes to stderr in both modes. */
  warn(line: string): void;
  /** A result: `value` with --json, else `text`. */
  result(value: unknown, text: string): void;
}

/** Output on this process's streams. */
export function createOutput(json: boolean): Output {
  return {
    json,
    say: (line = "") => {
      if (!json) process.stdout.write(`${line}\n`);
    },
    warn: (line) => process.stderr.write(`${paint("yellow", "warning:", process.stderr)} ${line}\n`),
    result: (value, text) => process.stdout.write(`${json ? toJson(value) : text}\n`),
  };
}

/** JSON with 64-bit integers as strings, as protobuf's JSON has them, and bytes as base64. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) => {
    if (typeof item === "bigint") return item.toString();
    if (item instanceof Uint8Array) return Buffer.from(item).toString("base64");
    return item;
  });
}

/** Colour where the stream is a terminal and NO_COLOR is not set. */
export function paint(
  style: "bold" | "dim" | "green" | "red" | "yellow" | "cyan",
  text: string,
  stream: NodeJS.WriteStream = process.stdout,
): string {
  return stream.isTTY && !process.env.NO_COLOR ? styleText(style, text) : text;
}

/** A text as it may be printed to a terminal: no control sequence that a model or a server wrote reaches it. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, (character) =>
    character === "\n" || character === "\t" ? character : `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}

/** Rows as aligned columns; the first row is the header. Numbers (and –) are set to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, c) => Math.max(...rows.map((row) => (row[c] ?? "").length)));
  const isNumber = (rows[0] ?? []).map((_, c) =>
    rows.slice(1).every((row) => /^[-–+]?[\d.,]*%?$/.test(row[c] ?? "")),
  );
  return rows
    .map((row) =>
      row
        .map((cell, c) => (isNumber[c] ? cell.padStart(widths[c] ?? 0) : cell.padEnd(widths[c] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
