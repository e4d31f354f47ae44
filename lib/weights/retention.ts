/** @file Which published versions may be deleted. Pure. */
import type { ServerStatus } from "./bus.js";
import type { WeightsManifest } from "./manifest.js";

/** An object on the bus. */
export interface StoredObject {
  object: string;
  version: number;
  /** Bytes. */
  size: number;
  /** When it was written, ms since 1970. */
  writtenAt: number;
}

/** What retention looks at. */
export interface RetentionState {
  objects: readonly StoredObject[];
  head: WeightsManifest | undefined;
  /** Live servers. */
  statuses: readonly ServerStatus[];
  /** How many of the newest versions up to the head stay, for rollback; at least 1. */
  keep: number;
  /** Objects younger than this stay, ms: a server may have seen the head just before it moved. */
  graceMs: number;
  /** Now, ms since 1970. */
  now: number;
}

/**
 * The objects that nobody needs. Never: what the head points to, anything newer (a publish in progress), what a live server serves
 * or loads, the newest `keep`, or what is younger than the grace time. Without a head nothing is deleted.
 */
export function deletable({ objects, head, statuses, keep, graceMs, now }: RetentionState): StoredObject[] {
  if (!head) return [];
  const inUse = new Set(statuses.flatMap(({ version, servingVersion }) => [version, servingVersion]));
  const versions = [...new Set(objects.map(({ version }) => version))]
    .filter((version) => version <= head.version)
    .sort((a, b) => b - a);
  const newest = new Set(versions.slice(0, Math.max(1, keep)));
  return objects.filter(
    ({ object, version, writtenAt }) =>
      object !== head.object &&
      version <= head.version &&
      // an orphan of a lost race shares its version with an object in use, but not its name
      (!newest.has(version) || version === head.version) &&
      !inUse.has(version) &&
      now - writtenAt >= graceMs,
  );
}
