/**
 * @file Peers: our own Python scripts that do a benchmark's work with PyTorch and what is built on it. In: a task. Out: rows of the same
 * form as ours.
 */
import { spawn } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { packageRoot } from "../lib/config/package-root.js";
import type { BenchOptions, PeerTask } from "./bench.js";
import type { Row } from "./rows.js";

/** What a peer said. */
export interface PeerReport {
  readonly rows: readonly Row[];
  /** Versions of what it used. */
  readonly versions: Readonly<Record<string, string>>;
}

/** A peer that could not do its work; the message says why. */
export class PeerError extends Error {
  readonly code = "PEER_FAILED";
}

const lineSchema = z.union([
  z.strictObject({ versions: z.record(z.string(), z.string()) }),
  z.strictObject({
    row: z.strictObject({
      case: z.string(),
      metric: z.string(),
      unit: z.string(),
      samples: z.array(z.number()).min(1),
      variant: z.string(),
    }),
  }),
]);

/** Runs a peer. `say` hears its progress. Throws PeerError with what it said last. */
export async function runPeer(
  python: string,
  { script, input }: PeerTask,
  { quick, threads, device, folder }: BenchOptions,
  say: (text: string) => void,
): Promise<PeerReport> {
  const scratch = join(folder, "scratch");
  await mkdir(scratch, { recursive: true });
  const inputFile = join(scratch, `${script}-${process.pid}.json`);
  await writeFile(inputFile, JSON.stringify({ quick, threads, device, ...input }));
  const path = join(packageRoot(), "bench", "peers", script);
  const child = spawn(python, [path, inputFile], {
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...process.env,
      OMP_NUM_THREADS: String(threads),
      TOKENIZERS_PARALLELISM: "false",
      HF_HUB_OFFLINE: "1",
      PYTHONDONTWRITEBYTECODE: "1", // nothing of theirs stays in the working tree
    },
  });
  const rows: Row[] = [];
  const versions: Record<string, string> = {};
  let words = "";
  const output = collectLines(child.stdout, (line) => {
    const parsed = lineSchema.safeParse(parseJson(line));
    if (!parsed.success) say(line);
    else if ("row" in parsed.data) rows.push(parsed.data.row);
    else Object.assign(versions, parsed.data.versions);
  });
  const errors = collectLines(child.stderr, (line) => {
    words = `${words}${line}\n`.slice(-4000);
    if (line.startsWith("peer: ")) say(line.slice("peer: ".length));
  });
  const status = await new Promise<number | string>((resolve, reject) => {
    child.once("error", (error) => reject(new PeerError(`${python}: ${error.message}`, { cause: error })));
    child.once("close", (code, signal) => resolve(code ?? signal ?? "unknown"));
  });
  await Promise.all([output, errors]);
  await rm(inputFile, { force: true });
  if (status !== 0)
    throw new PeerError(`${script} ended with ${status}: ${words.trim().split("\n").slice(-6).join("\n")}`);
  return { rows, versions };
}

async function collectLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): Promise<void> {
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop()!;
    for (const line of lines) onLine(line);
  }
  if (rest !== "") onLine(rest);
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // a library that talks on stdout
  }
}
