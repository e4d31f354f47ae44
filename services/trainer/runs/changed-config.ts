/**
 * @file Which fields of a run file may change when a run is resumed: where servers are and how long the run is; nothing
 * that the numbers so far depend on.
 */
import { RunStateError } from "../errors.js";
import type { RunConfig } from "../run-config.js";

/** Fields that a resumed run may have anew. */
const MAY_CHANGE = [
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

/** Fields of each reward term that a resumed run may have anew. */
const MAY_CHANGE_OF_REWARDS = ["addresses", "tokenFile", "tls"] as const;

/** All of them, by the names that people are told. */
export const ALL_THAT_MAY_CHANGE = [
  ...MAY_CHANGE,
  ...MAY_CHANGE_OF_REWARDS.map((field) => `rewards[].${field}`),
];

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
    `the run file differs in ${lines.join("; ")}. When a run is resumed, only ${ALL_THAT_MAY_CHANGE.join(", ")} may change`,
  );
}

/** True for a field that a resumed run may have anew. */
export function mayChange(path: string): boolean {
  return (
    MAY_CHANGE.some((field) => path === field || path.startsWith(`${field}.`)) ||
    MAY_CHANGE_OF_REWARDS.some((field) => new RegExp(`^rewards\\.\\d+\\.${field}\\b`).test(path))
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
