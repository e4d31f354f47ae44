/** @file What can go wrong with weights on the bus. Each error has a stable `code` and the facts as fields. */
import type { WeightsManifest } from "./manifest.js";

/** Somebody else moved the head, or the version to publish is not above it. Nothing was changed. */
export class WeightsConflictError extends Error {
  readonly code = "WEIGHTS_CONFLICT";
  /** The version that was to be published. */
  readonly version: number;
  /** Where the head is. */
  readonly head: WeightsManifest;

  constructor(run: string, version: number, head: WeightsManifest) {
    super(
      `weights ${run} v${version}: expected a version above the head, the head is v${head.version}` +
        ` (published ${head.createdAt} by ${head.publisher})`,
    );
    this.name = "WeightsConflictError";
    this.version = version;
    this.head = head;
  }
}

/** Where weights are damaged and how. */
export interface CorruptFacts {
  /** Object, or file, that is wrong. */
  readonly object: string;
  readonly version?: number;
  /** The tensor concerned, when the damage can be pinned to one. */
  readonly tensor?: string;
  readonly expected: string;
  readonly found: string;
}

/** An object, manifest or head that must not be used: wrong length, digest, tensor, shape, type, or a value that is not finite. */
export class WeightsCorruptError extends Error {
  readonly code = "WEIGHTS_CORRUPT";
  readonly object: string;
  readonly version: number | undefined;
  readonly tensor: string | undefined;
  readonly expected: string;
  readonly found: string;

  constructor(facts: CorruptFacts, options?: ErrorOptions) {
    const version = facts.version === undefined ? "" : ` v${facts.version}`;
    const tensor = facts.tensor === undefined ? "" : ` tensor ${facts.tensor}:`;
    super(
      `weights${version} (${facts.object}):${tensor} expected ${facts.expected}, found ${facts.found}`,
      options,
    );
    this.name = "WeightsCorruptError";
    this.object = facts.object;
    this.version = facts.version;
    this.tensor = facts.tensor;
    this.expected = facts.expected;
    this.found = facts.found;
  }
}

/** Weights that were to be published hold a NaN or an infinity. Nothing was published. */
export class WeightsNotFiniteError extends Error {
  readonly code = "NON_FINITE";
  readonly tensor: string;
  /** Flat index of the first such element. */
  readonly index: number;

  constructor(version: number, tensor: string, index: number, value: number) {
    super(
      `weights v${version} tensor ${tensor}: expected finite numbers, found ${value} at element ${index}`,
    );
    this.name = "WeightsNotFiniteError";
    this.tensor = tensor;
    this.index = index;
  }
}

/** The object of a manifest is no longer there: pruned, or the bus lost its store. */
export class WeightsGoneError extends Error {
  readonly code = "WEIGHTS_GONE";
  readonly object: string;

  constructor(object: string, when: string) {
    super(`weights ${object}: the object is gone (${when})`);
    this.name = "WeightsGoneError";
    this.object = object;
  }
}

/** Something took longer than it may: a whole fetch, one chunk of it, or waiting for servers. */
export class WeightsDeadlineError extends Error {
  readonly code = "DEADLINE";
  /** The bound that was passed, ms. */
  readonly deadlineMs: number;

  constructor(what: string, deadlineMs: number, options?: ErrorOptions) {
    super(what, options);
    this.name = "WeightsDeadlineError";
    this.deadlineMs = deadlineMs;
  }
}

/** The caller gave up. */
export class WeightsCancelledError extends Error {
  readonly code = "CANCELLED";

  constructor(what: string, options?: ErrorOptions) {
    super(`weights: ${what} was cancelled`, options);
    this.name = "WeightsCancelledError";
  }
}

/** The bus does not answer or refuses: no connection, no JetStream, no room, no permission. Worth trying again later. */
export class BusUnavailableError extends Error {
  readonly code = "BUS_UNAVAILABLE";

  constructor(where: string, what: string, cause: unknown) {
    super(`weights bus ${where}: ${what}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
    this.name = "BusUnavailableError";
  }
}

/** The address of a bus is not one we know, or a name is not usable. */
export class BusAddressError extends Error {
  readonly code = "INVALID_FIELD";
  readonly violations: { field: string; description: string }[];

  constructor(field: string, value: string, accepted: string) {
    super(`${field}: ${JSON.stringify(value)} → ${accepted}`);
    this.name = "BusAddressError";
    this.violations = [{ field, description: `expected ${accepted}` }];
  }
}
