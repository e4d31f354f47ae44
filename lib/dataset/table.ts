/**
 * @file Reads a table from a CSV, JSON Lines, JSON or Parquet file, chosen by its extension.
 * Out: column names and rows of plain values, in the file's order. Files are read whole: they hold thousands
 * of rows.
 */
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { CsvError, parse } from "csv-parse/sync";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { DatasetError } from "./errors.js";

/** A value of a table, before a schema gives it a type. */
export type Cell = string | number | bigint | boolean | null | undefined | object;

/** A table with where each row stood. */
export interface Table {
  readonly file: string;
  readonly columns: readonly string[];
  readonly rows: readonly Readonly<Record<string, Cell>>[];
  /** Line on which each row begins; absent for Parquet and JSON. */
  readonly lines?: readonly number[];
}

const READERS: Readonly<Record<string, (file: string) => Promise<Table>>> = {
  ".csv": (file) => readCsv(file, ","),
  ".tsv": (file) => readCsv(file, "\t"),
  ".jsonl": readJsonLines,
  ".ndjson": readJsonLines,
  ".json": readJson,
  ".parquet": readParquet,
};

/** Reads a table. Throws {@link DatasetError} naming file, row and column. */
export async function readTable(file: string): Promise<Table> {
  const reader = READERS[extname(file).toLowerCase()];
  if (reader === undefined) {
    const found = extname(file) || "no extension";
    throw new DatasetError({ file, expected: `an extension of ${Object.keys(READERS).join(", ")}`, found });
  }
  return reader(file);
}

async function readText(file: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const found = code === "ENOENT" ? "no such file" : code === "EISDIR" ? "a directory" : String(cause);
    throw new DatasetError({ file, expected: "a readable file", found }, { cause });
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes); // drops a byte order mark
  } catch (cause) {
    throw new DatasetError({ file, expected: "UTF-8 text", found: "bytes that are not UTF-8" }, { cause });
  }
}

/** RFC 4180: a header row, quoted fields may hold commas, line breaks and doubled quotes. */
async function readCsv(file: string, delimiter: string): Promise<Table> {
  const text = await readText(file);
  let records: { record: string[]; info: { lines: number } }[];
  try {
    records = parse(text, {
      delimiter,
      relax_column_count: true, // counted below, with a better message
      skip_empty_lines: true,
      info: true,
    }) as unknown as typeof records;
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw cause;
    const line = typeof cause.lines === "number" ? cause.lines : undefined;
    const records = typeof cause.records === "number" ? cause.records : undefined;
    throw new DatasetError(
      { file, row: records, line, expected: "well-formed CSV", found: cause.message },
      { cause },
    );
  }
  const [header, ...body] = records;
  if (header === undefined)
    throw new DatasetError({ file, expected: "a header row", found: "an empty file" });
  const columns = header.record.map((name) => name.trim());
  const empty = columns.indexOf("");
  if (empty >= 0)
    throw new DatasetError({ file, expected: `a name for column ${empty + 1}`, found: "nothing" });
  const twice = columns.find((name, i) => columns.indexOf(name) !== i);
  if (twice !== undefined)
    throw new DatasetError({ file, column: twice, expected: "each column once", found: "it twice" });
  const rows = body.map(({ record, info }, i) => {
    if (record.length !== columns.length) {
      const expected = `${columns.length} fields (${columns.join(", ")})`;
      throw new DatasetError({ file, row: i + 1, line: info.lines, expected, found: `${record.length}` });
    }
    return Object.fromEntries(columns.map((name, j) => [name, record[j]]));
  });
  return { file, columns, rows, lines: body.map(({ info }) => info.lines) };
}

async function readJsonLines(file: string): Promise<Table> {
  const rows: Record<string, Cell>[] = [];
  const lines: number[] = [];
  for (const [i, line] of (await readText(file)).split(/\r?\n/).entries()) {
    if (line.trim() === "") continue;
    rows.push(asRow(file, parseJson(file, line, rows.length + 1, i + 1), rows.length + 1, i + 1));
    lines.push(i + 1);
  }
  return { file, columns: columnsOf(rows), rows, lines };
}

async function readJson(file: string): Promise<Table> {
  const value = parseJson(file, await readText(file));
  if (!Array.isArray(value))
    throw new DatasetError({ file, expected: "an array of objects", found: kindOf(value) });
  const rows = value.map((row, i) => asRow(file, row, i + 1));
  return { file, columns: columnsOf(rows), rows };
}

async function readParquet(file: string): Promise<Table> {
  try {
    const buffer = await asyncBufferFromFile(file);
    const metadata = await parquetMetadataAsync(buffer);
    const rows = await parquetReadObjects({ file: buffer, metadata, compressors });
    const columns = metadata.schema.slice(1).map(({ name }) => name);
    return { file, columns, rows: rows as Record<string, Cell>[] };
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const found = code === "ENOENT" ? "no such file" : cause instanceof Error ? cause.message : String(cause);
    throw new DatasetError({ file, expected: "a readable Parquet file", found }, { cause });
  }
}

function parseJson(file: string, text: string, row?: number, line?: number): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const found = cause instanceof Error ? cause.message.slice(0, 160) : String(cause);
    throw new DatasetError({ file, row, line, expected: "valid JSON", found }, { cause });
  }
}

function asRow(file: string, value: unknown, row: number, line?: number): Record<string, Cell> {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Record<string, Cell>;
  throw new DatasetError({ file, row, line, expected: "a JSON object", found: kindOf(value) });
}

function columnsOf(rows: readonly object[]): string[] {
  return [...new Set(rows.flatMap((row) => Object.keys(row)))];
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}
