/**
 * @file Which fields of a run file may change when a run is resumed: where servers are and how long the run is; nothing
 * that the numbers so far depend on.
 */
import { RunStateError } from "../errors.js";
import type { RunConfig } from "../run-config.js";

/** Fields that a resumed run may have anew. */
export const MAY_CHANGE = [
  "servers",
  "weights",
  "timeouts",
  "threads",
  "device",
  "checkpoint",
  "evaluation",
  "record",
  "alarms",
  "stalls",
  "batches",
  "epochs",
  "maxFailedFraction",
] as const;

/** Throws RunStateError naming every field that differs and must not, and what may. */
export function checkResumeConfig(kept: RunConfig, given: RunConfig): void {
  const before = leavesOf(kept);
  const after = leavesOf(given);
  const differing = [...new Set([...before.keys(), ...after.keys()])].filter(
    (path) => before.get(path) !== after.get(path) && !mayChange(path),
  );
  if (differing.length === 0) return;
  const lines = differing.map(
    (path) => `${path}: ${before.get(path) ?? "missing"} → ${after.get(path) ?? "missing"}`,
  );
  throw new RunStateError(
    `the run file differs in ${lines.join("; ")}. When a run is resumed, only ${MAY_CHANGE.join(", ")} may change`,
  );
}

/** True for a field that a resumed run may have anew. */
export function mayChange(path: string): boolean {
  return (
    MAY_CHANGE.some((field) => path === field || path.startsWith(`${field}.`)) ||
    /^rewards\.\d+\.(addresses|tokenFile|tls)\b/.test(path)
  );
}

/** The leaves of a configuration by path, as JSON. */
export function leavesOf(value: unknown, path = ""): Map<string, string> {
  if (typeof value !== "object" || value === null)
    return new Map([[path, JSON.stringify(value) ?? "missing"]]);
  return new Map(
    Object.entries(value).flatMap(([key, item]) => [...leavesOf(item, path === "" ? key : `${path}.${key}`)]),
  );
}
