/**
 * @file Runs as their directories show them: run.json, run.yaml, and which batches, traces and reports there are. The dashboard
 * knows runs only so; a live trainer, a dead one and a copied directory look the same.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { NotFoundError } from "./errors.js";
import { isAtWork } from "./liveness.js";

/** The parts of run.json that are shown; a trainer newer than this dashboard may have more. */
const recordSchema = z.looseObject({
  kind: z.string(),
  state: z.string(),
  step: z.number(),
  totalSteps: z.number(),
  startedAt: z.string(),
  reason: z.string().default(""),
  weights: z.looseObject({ version: z.number(), digest: z.string() }).optional(),
  weightsBus: z.string().default(""),
  modelDirectory: z.string().default(""),
  metrics: z.record(z.string(), z.number().nullable()).default({}),
});

/** A run as the list shows it. `state` is that of run.json, INTERRUPTED where its process is gone, or UNREADABLE. */
export interface RunSummary {
  readonly id: string;
  readonly kind: string;
  readonly state: string;
  readonly step: number;
  readonly totalSteps: number;
  readonly startedAt: string;
  /** Why it failed or stopped, or can't be read. */
  readonly reason: string;
  readonly weights?: { readonly version: number; readonly digest: string } | undefined;
  readonly weightsBus: string;
  readonly modelDirectory: string;
  /** Values of the newest step. */
  readonly metrics: Readonly<Record<string, number | null>>;
}

/** A run with what its own page needs besides the stream. */
export interface RunDetails extends RunSummary {
  readonly directory: string;
  /** The resolved run file, as YAML. */
  readonly config: string;
  /** The same by path: `ppo.clipRange` → `0.2`. */
  readonly fields: Readonly<Record<string, string>>;
  readonly hasReport: boolean;
}

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const AT_WORK = new Set(["STARTING", "RUNNING"]);

/** The runs below one directory. */
export class RunDirectories {
  constructor(readonly root: string) {}

  /** All runs, newest first; those that can't be read are among them and say why. */
  list(): RunSummary[] {
    let names: string[];
    try {
      names = readdirSync(this.root);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return []; // nothing has run yet
      throw error;
    }
    return names
      .filter((name) => ID.test(name) && existsSync(join(this.root, name, "run.json")))
      .map((name) => this.#summary(name))
      .sort((a, b) => b.startedAt.localeCompare(a.startedAt) || a.id.localeCompare(b.id));
  }

  /** Directory of a run. Throws NotFoundError where there is no such run. */
  directoryOf(id: string): string {
    const directory = join(this.root, id);
    if (!ID.test(id) || !existsSync(join(directory, "run.json"))) {
      throw new NotFoundError(`There is no run ${JSON.stringify(id)} in ${this.root}.`);
    }
    return directory;
  }

  /** One run. Throws NotFoundError. */
  get(id: string): RunSummary {
    this.directoryOf(id);
    return this.#summary(id);
  }

  /** One run with its run file. Throws NotFoundError. */
  details(id: string): RunDetails {
    const directory = this.directoryOf(id);
    const config = textOf(join(directory, "run.yaml"));
    return {
      ...this.#summary(id),
      directory,
      config,
      fields: fieldsOf(config),
      hasReport: existsSync(reportPath(directory)),
    };
  }

  #summary(id: string): RunSummary {
    const directory = join(this.root, id);
    try {
      const record = recordSchema.parse(JSON.parse(readFileSync(join(directory, "run.json"), "utf8")));
      const { kind, state, step, totalSteps, startedAt, reason, weights, weightsBus, metrics } = record;
      const gone = AT_WORK.has(state) && !isAtWork(directory);
      return {
        id,
        kind,
        state: gone ? "INTERRUPTED" : state,
        ...{ step, totalSteps, startedAt, metrics, weights, weightsBus },
        modelDirectory: record.modelDirectory,
        reason: reason || (gone ? "its process ended without a word" : ""),
      };
    } catch (error) {
      const why = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
      return {
        ...{ id, kind: "", state: "UNREADABLE", step: 0, totalSteps: 0, startedAt: "", metrics: {} },
        ...{ weightsBus: "", modelDirectory: "", reason: `run.json: ${why}` },
      };
    }
  }
}

/** Where a run's report is, if it has one. */
export function reportPath(directory: string): string {
  return join(directory, "evaluation", "report.html");
}

function fieldsOf(config: string): Record<string, string> {
  try {
    return Object.fromEntries(leavesOf(parse(config)));
  } catch {
    return {}; // a damaged run file is still shown as text
  }
}

function leavesOf(value: unknown, path = ""): [string, string][] {
  if (typeof value !== "object" || value === null) return path === "" ? [] : [[path, String(value)]];
  return Object.entries(value).flatMap(([key, item]) => leavesOf(item, path === "" ? key : `${path}.${key}`));
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
