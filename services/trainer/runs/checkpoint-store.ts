/**
 * @file The checkpoints of a run: each a folder `step-NNNNNNNN`, written beside, fsynced and renamed, with the resolved run file and a
 * manifest of digests. A folder that does not match its manifest is never used; the one before it is.
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { gauge } from "../../../lib/telemetry/index.js";
import { fsyncFolder, writeFileAtomic } from "./files.js";

const manifestSchema = z.object({
  format: z.literal(1),
  step: z.number().int(),
  /** Value of the metric that keepBest watches, if there was one. */
  score: z.number().nullable(),
  /** SHA-256 and size of each file, by path within the folder. */
  files: z.record(z.string(), z.object({ sha256: z.string(), bytes: z.number().int() })),
  /** What the run is besides tensors; its owner knows the form. */
  state: z.unknown(),
});

type Manifest = z.output<typeof manifestSchema>;

/** A checkpoint that was found whole. */
export interface StoredCheckpoint {
  readonly step: number;
  readonly folder: string;
  readonly state: unknown;
}

/** Which checkpoints stay. */
export interface Retention {
  readonly keepLast: number;
  readonly keepBest?: { readonly mode: "max" | "min" } | undefined;
}

const sizes = gauge("rlhf.checkpoint.size");

const MANIFEST = "manifest.json";
const CONFIG = "run.yaml";
const folderOf = (step: number) => `step-${String(step).padStart(8, "0")}`;

/** Checkpoints of one run directory. */
export class CheckpointStore {
  readonly #root: string;

  /** `config` is the text of the resolved run file, which each checkpoint keeps. */
  constructor(
    runDirectory: string,
    private readonly retention: Retention,
    private readonly config = "",
  ) {
    this.#root = join(runDirectory, "checkpoints");
  }

  /** The run files that the checkpoints of a run directory were made under, newest first. */
  static configsOf(runDirectory: string): string[] {
    const root = join(runDirectory, "checkpoints");
    const steps = existsSync(root) ? stepsAmong(readdirSync(root)).reverse() : [];
    const paths = steps.map((step) => join(root, folderOf(step), CONFIG));
    return paths.filter((path) => existsSync(path)).map((path) => readFileSync(path, "utf8"));
  }

  /**
   * Writes a checkpoint: `write` puts its files into the folder it is given. Until the rename the earlier checkpoints
   * are all there is; a failure (a full disk, say) removes what was begun and throws.
   */
  async save(
    step: number,
    state: unknown,
    write: (folder: string) => Promise<void>,
    score: number | null = null,
  ): Promise<string> {
    await mkdir(this.#root, { recursive: true });
    const folder = join(this.#root, folderOf(step));
    const beside = `${folder}.tmp-${process.pid}`;
    try {
      await rm(beside, { recursive: true, force: true });
      await mkdir(beside);
      await write(beside);
      await writeFile(join(beside, CONFIG), this.config);
      const files: Manifest["files"] = {};
      for (const name of await filesBelow(beside)) {
        const path = join(beside, name);
        files[name] = { sha256: await sha256(path), bytes: (await stat(path)).size };
        await fsyncFile(path);
      }
      const manifest: Manifest = { format: 1, step, score, files, state };
      writeFileAtomic(join(beside, MANIFEST), `${JSON.stringify(manifest)}\n`);
      await rm(folder, { recursive: true, force: true }); // of the same step: a damaged one, or one from before a resume
      await rename(beside, folder);
      fsyncFolder(this.#root);
      sizes.record(Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0));
    } catch (error) {
      await rm(beside, { recursive: true, force: true }).catch(() => {});
      throw error;
    }
    await this.#prune();
    return folder;
  }

  /** The newest checkpoint of at most `atMost` steps that is whole; `onDamaged` hears of each newer one that is not, and why. */
  async latest(
    onDamaged: (folder: string, why: string) => void,
    atMost = Number.POSITIVE_INFINITY,
  ): Promise<StoredCheckpoint | undefined> {
    for (const step of (await this.#steps()).reverse()) {
      if (step > atMost) continue;
      const folder = join(this.#root, folderOf(step));
      try {
        const manifest = await verify(folder);
        return { step: manifest.step, folder, state: manifest.state };
      } catch (error) {
        onDamaged(folder, (error as Error).message);
      }
    }
    return undefined;
  }

  /** Step of the newest checkpoint, whole or not; undefined without one. */
  async newestStep(): Promise<number | undefined> {
    return (await this.#steps()).at(-1);
  }

  /**
   * Renames a damaged checkpoint's folder, so that it is not counted among those that stay. Returns its new path; one that was set
   * aside before under that name is removed.
   */
  async setAside(folder: string): Promise<string> {
    const aside = `${folder}.damaged`;
    await rm(aside, { recursive: true, force: true });
    await rename(folder, aside);
    return aside;
  }

  /** Steps that have a folder, rising. */
  async #steps(): Promise<number[]> {
    if (!existsSync(this.#root)) return [];
    return stepsAmong(await readdir(this.#root));
  }

  async #prune(): Promise<void> {
    const steps = await this.#steps();
    const keep = new Set(steps.slice(-this.retention.keepLast));
    const best = this.retention.keepBest && (await this.#best(steps, this.retention.keepBest.mode));
    if (best !== undefined) keep.add(best);
    for (const step of steps) {
      if (!keep.has(step)) await rm(join(this.#root, folderOf(step)), { recursive: true, force: true });
    }
    for (const name of await readdir(this.#root)) {
      if (name.includes(".tmp-")) await rm(join(this.#root, name), { recursive: true, force: true });
    }
  }

  async #best(steps: readonly number[], mode: "max" | "min"): Promise<number | undefined> {
    let best: { step: number; score: number } | undefined;
    for (const step of steps) {
      const score = (await readManifest(join(this.#root, folderOf(step))).catch(() => undefined))?.score;
      if (score === null || score === undefined) continue;
      if (!best || (mode === "max" ? score > best.score : score < best.score)) best = { step, score };
    }
    return best?.step;
  }
}

/** Steps whose folders are among these names, rising. */
function stepsAmong(names: readonly string[]): number[] {
  return names
    .flatMap((name) => (/^step-\d{8,}$/.test(name) ? [Number(name.slice("step-".length))] : []))
    .sort((a, b) => a - b);
}

async function readManifest(folder: string): Promise<Manifest> {
  return manifestSchema.parse(JSON.parse(await readFile(join(folder, MANIFEST), "utf8")));
}

/** Throws unless every file of the manifest is there with its size and digest. */
async function verify(folder: string): Promise<Manifest> {
  const manifest = await readManifest(folder);
  for (const [name, expected] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    const { size } = await stat(path);
    if (size !== expected.bytes) throw new Error(`${name}: expected ${expected.bytes} bytes, found ${size}`);
    const digest = await sha256(path);
    if (digest !== expected.sha256) {
      throw new Error(
        `${name}: expected sha256 ${expected.sha256.slice(0, 12)}…, found ${digest.slice(0, 12)}…`,
      );
    }
  }
  return manifest;
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

async function fsyncFile(path: string): Promise<void> {
  const file = await open(path, "r+");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
