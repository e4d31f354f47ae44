/**
 * @file Reads a run file and checks it as the trainer will, before any process is started. The trainer's own check is met at
 * run time, as its service is: nothing of it is imported.
 */
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { assertDevice, type EngineDevice } from "../lib/engine/index.js";
import { CliError, EXIT } from "./exit-codes.js";

/** The command that runs a run file, by the `kind` that it says. */
export const COMMAND_OF = {
  ppo: "train",
  sft: "sft",
  reward: "train-reward",
  encoder: "train-encoder",
} as const;

/** What a run file may train. */
export type RunKindName = keyof typeof COMMAND_OF;

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

/**
 * Rejects with ConfigError naming every problem of a run file, and every input of it that is missing; with DeviceUnavailableError where
 * its device cannot compute here.
 */
export async function checkRunFile({ config, baseDirectory }: RunFile): Promise<void> {
  const at = (module: string) => import(new URL(`../services/trainer/${module}.js`, import.meta.url).href);
  const { parseRunConfig } = (await at("run-config")) as {
    parseRunConfig: (text: string, baseDirectory: string) => { device: EngineDevice };
  };
  const { checkRunInputs } = (await at("run-inputs")) as { checkRunInputs: (config: unknown) => void };
  const checked = parseRunConfig(config, baseDirectory);
  checkRunInputs(checked);
  await assertDevice(checked.device);
}
