/**
 * @file What results depend on besides the code: machine, versions, commit.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { arch, availableParallelism, cpus, loadavg, release, totalmem, type } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../lib/config/package-root.js";

/** The machine and how busy it was. */
export interface Machine {
  readonly cpu: string;
  /** Cores that this process may use. */
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  /** Mean number of runnable processes over the last minute, as the benchmark began. */
  readonly load: number;
}

/** Facts about this machine. */
export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release()} ${arch()}`,
    load: Math.round(100 * loadavg()[0]) / 100,
  };
}

/** Versions of what computes. */
export function describeVersions(): Record<string, string> {
  const manifest = (folder: string) =>
    (JSON.parse(readFileSync(join(packageRoot(), folder, "package.json"), "utf8")) as { version: string })
      .version;
  const packages = ["onnxruntime-node", "koffi", "@grpc/grpc-js"];
  return {
    "rlhf-mesh": manifest("."),
    node: process.versions.node,
    ...Object.fromEntries(packages.map((name) => [name, manifest(join("node_modules", name))])),
  };
}

/** The commit that is checked out, with a plus sign where files differ from it; "unknown" outside a repository. */
export function describeCommit(): string {
  const git = (...args: string[]) =>
    execFileSync("git", args, {
      cwd: packageRoot(),
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  try {
    const changed = git("status", "--porcelain", "--untracked-files=no") !== "";
    return git("rev-parse", "--short=12", "HEAD") + (changed ? "+" : "");
  } catch {
    return "unknown";
  }
}
