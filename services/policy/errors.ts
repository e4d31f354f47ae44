/**
 * @file Errors of the policy service beyond those of the server kit. Each has a stable `code`; lib/rpc turns codes into
 * statuses.
 */

/** The weights a request demands are not the ones this server has (FAILED_PRECONDITION). */
export class VersionNotHeldError extends Error {
  readonly code = "VERSION_NOT_HELD";
  readonly subject = "weights";

  constructor(
    /** For example `version 7` or `version 7 or later`. */
    readonly demanded: string,
    /** Versions in memory, newest first. */
    readonly held: readonly number[],
  ) {
    super(`weights ${demanded} demanded, this server holds ${held.map((v) => `v${v}`).join(", ")}`);
    this.name = "VersionNotHeldError";
  }
}

/** Somebody else changed the weights, or the version does not rise (ABORTED). The serving weights stay. */
export class WeightsConflictError extends Error {
  readonly code = "WEIGHTS_CONFLICT";

  constructor(message: string) {
    super(message);
    this.name = "WeightsConflictError";
  }
}

/** Weights that are not what they claim to be (DATA_LOSS). The serving weights stay. */
export class WeightsCorruptError extends Error {
  readonly code = "WEIGHTS_CORRUPT";

  constructor(message: string) {
    super(message);
    this.name = "WeightsCorruptError";
  }
}

/** Tokenizer and weights of a directory do not belong together; the server does not start. */
export class ModelMismatchError extends Error {
  readonly code = "MODEL_MISMATCH";

  constructor(message: string) {
    super(message);
    this.name = "ModelMismatchError";
  }
}

/** The memory allowed for caches does not hold one sequence of the longest kind; the server does not start. */
export class CacheTooSmallError extends Error {
  readonly code = "CONFIG_INVALID";

  constructor(bytes: number, least: number) {
    const mebibytes = (n: number) => Math.ceil(n / 2 ** 20);
    super(
      `maxCacheMib: ${mebibytes(bytes)} → at least ${mebibytes(least)}, for one sequence as long as the model allows`,
    );
    this.name = "CacheTooSmallError";
  }
}

/** The model gave NaN or infinity, so there is nothing to choose or to report (INTERNAL). */
export class NonFiniteOutputError extends Error {
  readonly code = "NON_FINITE";

  constructor(where: string, version: number) {
    super(`${where}: the model (weights v${version}) gave NaN or infinity`);
    this.name = "NonFiniteOutputError";
  }
}
