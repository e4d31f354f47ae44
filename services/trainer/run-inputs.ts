/** @file The files and directories that a run file names: there, and of the kind they should be, before anything starts. */
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../../lib/config/index.js";
import { MODEL_TYPES } from "../../lib/models/config.js";
import type { Connection, RunConfig } from "./run-config.js";

/** Families of models that generate, and of those that read. */
const GENERATORS = ["gpt2"] as const;
const ENCODERS = MODEL_TYPES.filter((type) => type !== "gpt2");

/** Throws ConfigError naming every input of a run file that is missing, can't be read, or is a model of the wrong family. */
export function checkRunInputs(config: RunConfig): void {
  const problems: string[] = [];
  const file = (field: string, path: string | undefined) => {
    if (path !== undefined && !isReadable(path, "file"))
      problems.push(`${field}: ${path} → a file that can be read`);
  };
  const model = (field: string, path: string | undefined, families: readonly string[]) => {
    if (path === undefined) return;
    const problem = problemOfModel(path, families);
    if (problem) problems.push(`${field}: ${path} ${problem}`);
  };
  file("data.train", config.data.train);
  file("data.test", config.data.test);
  const generates = config.kind === "ppo" || config.kind === "sft";
  model("model", config.model, generates ? GENERATORS : ENCODERS);
  if (config.kind === "ppo") {
    model("reference", config.reference, GENERATORS);
    const files = (field: string, { tokenFile, tls }: Connection) => {
      file(`${field}.tokenFile`, tokenFile ?? undefined);
      for (const [name, path] of Object.entries(tls || {})) file(`${field}.tls.${name}`, path);
    };
    files("servers", config.servers);
    config.rewards.forEach((term, i) => {
      if ("addresses" in term) files(`rewards[${i}]`, term);
    });
    for (const service of ["reward", "bertscore"] as const) {
      const { addresses, model: folder } = config.servers[service];
      if (addresses.length === 0) model(`servers.${service}.model`, folder, ENCODERS);
    }
  } else if (typeof config.init?.tokenizer === "string" && !isReadable(config.init.tokenizer, "directory")) {
    problems.push(`init.tokenizer: ${config.init.tokenizer} → a directory with a tokenizer's files`);
  }
  if (problems.length > 0) throw new ConfigError(problems);
}

/** What is wrong with a model directory, and what is accepted; undefined if it may do. */
function problemOfModel(folder: string, families: readonly string[]): string | undefined {
  const path = join(folder, "config.json");
  if (!isReadable(path, "file")) return "→ a model directory, with config.json";
  let family: unknown;
  try {
    family = (JSON.parse(readFileSync(path, "utf8")) as { model_type?: unknown } | null)?.model_type;
  } catch {
    return "→ a model directory whose config.json is valid JSON";
  }
  if (families.includes(family as string)) return undefined;
  const found = family === undefined ? "names no model_type" : `holds a ${String(family)}`;
  return `${found} → ${families.join(", ")}`;
}

function isReadable(path: string, kind: "file" | "directory"): boolean {
  try {
    accessSync(path, constants.R_OK);
    const info = statSync(path);
    return kind === "file" ? info.isFile() : info.isDirectory();
  } catch {
    return false;
  }
}
