/**
 * @file A check of the conformance kit: one promise of the contract, put to a server. It passes by returning (what it saw, if that is
 * worth a word), fails by throwing CheckFailed, and says with NotChecked that it could not tell.
 */

/** What a check ended with. */
export type Outcome = "pass" | "fail" | "skip";

/** One promise of the contract. */
export interface Check<T> {
  /** Stable name, `group/what`: `score/order`. */
  readonly id: string;
  /** What is promised, as a sentence without its end. */
  readonly what: string;
  /** Puts it to the server. A text it resolves with is shown. */
  run(target: T): Promise<unknown>;
}

/** The server does not keep the promise. */
export class CheckFailed extends Error {
  override readonly name = "CheckFailed";
}

/** The server gave no occasion to see whether it keeps the promise. */
export class NotChecked extends Error {
  override readonly name = "NotChecked";
}

/** Fails the check unless `holds`. */
export function must(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new CheckFailed(otherwise);
}

/** Leaves the check open unless `holds`. */
export function needs(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new NotChecked(otherwise);
}

/** Fails the check unless two numbers are within `tolerance`; NaN is near nothing. */
export function mustBeNear(actual: number, expected: number, tolerance: number, what: string): void {
  must(
    Math.abs(actual - expected) <= tolerance,
    `${what}: ${actual} and ${expected} differ by ${Math.abs(actual - expected).toExponential(1)}, more than ${tolerance}`,
  );
}

/** The largest of some distances, for what a passed check says of itself. */
export function largest(distances: readonly number[]): string {
  return distances.length === 0 ? "0" : Math.max(...distances).toExponential(1);
}

/** A text of so many UTF-8 bytes, most of them in characters of two. */
export function ofBytes(bytes: number): string {
  return "é".repeat(Math.floor(bytes / 2)) + "e".repeat(bytes % 2);
}
