/**
 * @file Reads a run file and checks it as the trainer will, before any process is started. The trainer's own check is met at
 * run time, as its service is: nothing of it is imported.
 */
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { CliError, EXIT } from "./exit-codes.js";

/** A run file and the folder that its relative paths start from. */
export interface RunFile {
  readonly config: string;
  readonly baseDirectory: string;
}

/** Reads a run file; "-" is standard input. Throws CliError if it can't be read. */
export function readRunFile(path: string): RunFile {
  try {
    const config = readFileSync(path === "-" ? 0 : path, "utf8");
    return { config, baseDirectory: path === "-" ? process.cwd() : dirname(resolve(path)) };
  } catch (error) {
    throw new CliError(`run file ${path}: ${(error as Error).message}`, EXIT.usage, { cause: error });
  }
}

/** Throws ConfigError naming every problem of a run file, and every input of it that is missing. */
export async function checkRunFile({ config, baseDirectory }: RunFile): Promise<void> {
  const at = (module: string) => import(new URL(`../services/trainer/${module}.js`, import.meta.url).href);
  const { parseRunConfig } = (await at("run-config")) as {
    parseRunConfig: (text: string, baseDirectory: string) => unknown;
  };
  const { checkRunInputs } = (await at("run-inputs")) as { checkRunInputs: (config: unknown) => void };
  checkRunInputs(parseRunConfig(config, baseDirectory));
}
