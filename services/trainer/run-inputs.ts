/** @file The files and directories that a run file names: there, and of the kind they should be, before anything starts. */
import { accessSync, constants, statSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../../lib/config/index.js";
import type { RunConfig } from "./run-config.js";

/** Throws ConfigError naming every input of a run file that is missing or can't be read. */
export function checkRunInputs(config: RunConfig): void {
  const problems: string[] = [];
  const file = (field: string, path: string | undefined) => {
    if (path !== undefined && !isReadable(path, "file"))
      problems.push(`${field}: ${path} → a file that can be read`);
  };
  const model = (field: string, path: string | undefined) => {
    if (path !== undefined && !isReadable(join(path, "config.json"), "file")) {
      problems.push(`${field}: ${path} → a model directory, with config.json`);
    }
  };
  file("data.train", config.data.train);
  file("data.test", config.data.test);
  model("model", config.model);
  if (config.kind === "ppo") {
    model("reference", config.reference);
    file("servers.tokenFile", config.servers.tokenFile);
    for (const service of ["reward", "bertscore"] as const) {
      const { addresses, model: folder } = config.servers[service];
      if (addresses.length === 0) model(`servers.${service}.model`, folder);
    }
  } else if (typeof config.init?.tokenizer === "string" && !isReadable(config.init.tokenizer, "directory")) {
    problems.push(`init.tokenizer: ${config.init.tokenizer} → a directory with a tokenizer's files`);
  }
  if (problems.length > 0) throw new ConfigError(problems);
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
