/**
 * @file Expected failures of the learner. `code` is what the service kit maps to a gRPC status.
 */

/** A loss, gradient or rollout quantity became NaN or infinite. The weights are as they were before that minibatch. */
export class LearnerNonFiniteError extends Error {
  override readonly name = "LearnerNonFiniteError";
  readonly code = "NON_FINITE";

  constructor(
    /** What was not finite: `loss`, `gradient of transformer.wte.weight`, `logprobs` … */
    readonly quantity: string,
    /** The value found. */
    readonly value: number,
    /** Which minibatch or sample it was. */
    readonly where: string,
  ) {
    super(`${where}: expected a finite ${quantity}, got ${value}`);
  }
}

/** Sequences or examples that the model cannot take. Each violation names the field. */
export class LearnerInputError extends Error {
  override readonly name = "LearnerInputError";
  readonly code = "INVALID_FIELD";
  readonly violations: readonly { field: string; description: string }[];

  constructor(field: string, description: string) {
    super(`${field}: ${description}`);
    this.violations = [{ field, description }];
  }
}

/** Weights or optimizer state that do not belong to this model: a tensor is missing, unknown or of another size. */
export class LearnerStateError extends Error {
  override readonly name = "LearnerStateError";
  readonly code = "CHECKPOINT_CORRUPT";
}
