/**
 * @file Typed rows out of a table: the columns a caller names, each of the type it names.
 */
import { DatasetError } from "./errors.js";
import { type Cell, readTable } from "./table.js";

/** Type of a column. `text` may not be empty; `text?` may be empty or missing and is then "". */
export type ColumnType = "text" | "text?" | "number" | "integer";

/** Columns by name. */
export type RowSchema = Readonly<Record<string, ColumnType>>;

/** The row that a schema describes. */
export type RowOf<S extends RowSchema> = {
  readonly [C in keyof S]: S[C] extends "text" | "text?" ? string : number;
};

/**
 * Reads the columns of `schema` from a CSV, TSV, JSON Lines, JSON or Parquet file; other columns are left
 * out.
 * Throws {@link DatasetError} naming file, row and column; also when there are no rows.
 */
export async function readRows<const S extends RowSchema>(file: string, schema: S): Promise<RowOf<S>[]> {
  const table = await readTable(file);
  if (table.rows.length === 0) throw new DatasetError({ file, expected: "at least one row", found: "none" });
  for (const [column, type] of Object.entries(schema)) {
    if (type !== "text?" && !table.columns.includes(column)) {
      throw new DatasetError({
        file,
        column,
        expected: "a column of that name",
        found: table.columns.join(", "),
      });
    }
  }
  return table.rows.map((row, i) => {
    const out: Record<string, string | number> = {};
    for (const [column, type] of Object.entries(schema)) {
      const value = convert(Object.hasOwn(row, column) ? row[column] : undefined, type);
      if (value === undefined) {
        const line = table.lines?.[i];
        throw new DatasetError({
          file,
          row: i + 1,
          line,
          column,
          expected: WANTED[type],
          found: show(row[column]),
        });
      }
      out[column] = value;
    }
    return out as RowOf<S>;
  });
}

const WANTED: Readonly<Record<ColumnType, string>> = {
  text: "text",
  "text?": "text or nothing",
  number: "a number",
  integer: "a whole number",
};

function convert(cell: Cell, type: ColumnType): string | number | undefined {
  if (type === "text" || type === "text?") {
    if (typeof cell === "string" && (cell.trim() !== "" || type === "text?")) return cell;
    if (typeof cell === "number" || typeof cell === "bigint") return String(cell);
    return type === "text?" && (cell === undefined || cell === null) ? "" : undefined;
  }
  let value: number;
  if (typeof cell === "string") value = cell.trim() === "" ? Number.NaN : Number(cell);
  else if (typeof cell === "number" || typeof cell === "bigint" || typeof cell === "boolean")
    value = Number(cell);
  else return undefined;
  const sound = type === "integer" ? Number.isSafeInteger(value) : Number.isFinite(value);
  return sound ? value : undefined;
}

function show(cell: Cell): string {
  if (cell === undefined || cell === null || cell === "") return "nothing";
  const text = typeof cell === "bigint" ? `${cell}` : JSON.stringify(cell);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
