/**
 * @file What a server process holds once the garbage is collected: heap, open files, timers and sockets, tensors and native values of its
 * engines. Processes report it because a test loads fixtures/report-vitals.js into them; the product knows nothing of it.
 */
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "../support/eventually.js";
import { openFiles } from "./process-facts.js";

/** What one process holds. Bytes and counts. */
export interface Vitals {
  readonly rss: number;
  /** Live objects and buffers after a collection. */
  readonly heap: number;
  readonly external: number;
  /** Timers, sockets, servers and the like that keep the process alive. */
  readonly handles: number;
  /** Open files of all kinds. */
  readonly files: number;
  /** Tensors and native values (OrtValue) alive in all engines of the process, and those that only the collector released. */
  readonly tensors: number;
  readonly values: number;
  readonly forgotten: number;
}

/** Environment of processes that report their vitals to `folder`; `preload` are further modules for them. */
export function reporting(folder: string, ...preload: URL[]): Record<string, string> {
  mkdirSync(folder, { recursive: true });
  const modules = [new URL("./fixtures/report-vitals.js", import.meta.url), ...preload];
  return {
    NODE_OPTIONS: modules.map(({ href }) => `--import=${href}`).join(" "),
    RLHF_TEST_VITALS: folder,
  };
}

/** Asks a process that was started with `reporting(folder)`. Rejects if it does not answer. */
export async function vitalsOf(folder: string, pid: number): Promise<Vitals> {
  const path = join(folder, `${pid}.json`);
  rmSync(path, { force: true });
  process.kill(pid, "SIGUSR2");
  const report = await eventually(
    () => readIfThere(path),
    () => `process ${pid} reports its vitals`,
  );
  const files = Object.values(openFiles(pid)).reduce((sum, count) => sum + count, 0);
  return { ...(JSON.parse(report) as Omit<Vitals, "files">), files };
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
