/**
 * @file JSON objects beside the weights (config.json and its like), read with errors that name the file.
 */
import { readFile } from "node:fs/promises";
import { CheckpointError } from "./errors.js";

/** A JSON object. */
export type JsonObject = Record<string, unknown>;

/**
 * Reads a JSON object; undefined when there is no such file. Throws {@link CheckpointError} when it is no
 * JSON object.
 */
export async function readJsonObject(file: string): Promise<JsonObject | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new CheckpointError({ file, expected: "a readable file", found: String(cause) }, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const found = cause instanceof Error ? cause.message.slice(0, 200) : String(cause);
    throw new CheckpointError({ file, expected: "valid JSON", found }, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const found = value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
    throw new CheckpointError({ file, expected: "a JSON object", found });
  }
  return value as JsonObject;
}
