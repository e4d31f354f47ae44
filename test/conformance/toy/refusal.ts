/** @file How a toy server refuses a call, and how it collects what is wrong with a request. */
import { status } from "@grpc/grpc-js";

/** What is wrong with one field. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** A call that is not answered. */
export class Refusal extends Error {
  constructor(
    readonly code: status,
    message: string,
    readonly reason: string,
    readonly violations: readonly FieldViolation[] = [],
    readonly retryMs?: number,
  ) {
    super(message);
  }
}

/** Collects violations; a mutation drops or renames some of them. */
export class Checks {
  readonly found: FieldViolation[] = [];

  /** Notes a violation unless `holds`. */
  must(holds: boolean, field: string, description: string): void {
    if (!holds) this.found.push({ field, description });
  }

  /** Throws INVALID_ARGUMENT if anything was noted that `counts`. */
  done(counts: (violation: FieldViolation) => boolean = () => true): void {
    const violations = this.found.filter(counts);
    const [first] = violations;
    if (!first) return;
    const message = `${first.field}: ${first.description}`;
    throw new Refusal(status.INVALID_ARGUMENT, message, "BAD_FIELD", violations);
  }
}
