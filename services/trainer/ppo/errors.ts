/**
 * @file Expected failures of the PPO mathematics. `code` is what the service kit maps to a gRPC status.
 */

/** Arrays whose lengths do not fit together: a mistake of the calling code, never of a user. */
export class ShapeError extends Error {
  override readonly name = "ShapeError";
}

/** A batch that PPO cannot learn from. Each violation names the field of the batch. */
export class PpoInputError extends Error {
  override readonly name = "PpoInputError";
  readonly code = "INVALID_FIELD";
  readonly violations: readonly { field: string; description: string }[];

  constructor(violations: readonly { field: string; description: string }[]) {
    super(violations.map(({ field, description }) => `${field}: ${description}`).join("; "));
    this.violations = violations;
  }
}

/** Throws ShapeError unless `actual` is `expected`. */
export function expectLength(name: string, actual: number, expected: number): void {
  if (actual !== expected) throw new ShapeError(`${name}: expected [${expected}], got [${actual}]`);
}
