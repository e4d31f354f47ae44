/**
 * @file Errors of the BERTScore service that callers can act on; `lib/rpc` maps their codes to gRPC statuses.
 */

/** One wrong request field: its path (`pairs[3].candidate`) and what would be accepted. */
export interface FieldViolation {
  field: string;
  description: string;
}

/** A request whose fields cannot be scored as asked (INVALID_ARGUMENT with a BadRequest detail). */
export class InvalidRequestError extends Error {
  readonly code = "INVALID_FIELD";
  readonly violations: readonly FieldViolation[];

  constructor(violations: readonly FieldViolation[]) {
    super(violations.map(({ field, description }) => `${field}: ${description}`).join("; "));
    this.name = "InvalidRequestError";
    this.violations = violations;
  }
}

/** The request names a model that this server does not hold (NOT_FOUND). */
export class UnknownModelError extends Error {
  readonly code = "UNKNOWN_MODEL";

  constructor(
    readonly requested: string,
    readonly served: string,
  ) {
    super(`model: this server holds "${served}", not "${requested}"`);
    this.name = "UnknownModelError";
  }
}

/** The encoder produced NaN or infinity, so there is no score to give (INTERNAL). */
export class NonFiniteEmbeddingError extends Error {
  readonly code = "NON_FINITE";

  constructor(tokens: number, layer: number) {
    super(`layer ${layer}: non-finite hidden state for a sentence of ${tokens} tokens`);
    this.name = "NonFiniteEmbeddingError";
  }
}

/** A baseline table that is missing or malformed. */
export class BaselineError extends Error {
  readonly code = "BASELINE";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "BaselineError";
  }
}
