/** @file A deliberate mistake in a toy server, and what the check that it breaks must say about it. */

/** One mistake. */
export interface Mutation<T> {
  /** The mistake, as whoever made it would call it. */
  readonly mistake: string;
  /** Makes it. */
  readonly make: (toy: T) => void;
  /** What the check must say. */
  readonly says: RegExp;
}

/** Mistakes by the check that must catch them. */
export type Mutants<T> = Readonly<Record<string, readonly Mutation<T>[]>>;

/** A mistake that a check must catch. */
export function mutation<T>(mistake: string, says: RegExp, make: (toy: T) => void): Mutation<T> {
  return { mistake, says, make };
}

/** Changes what a method of an object gives back. */
export function after<O, K extends keyof O>(
  object: O,
  name: K,
  change: O[K] extends (...args: infer A) => Promise<infer R>
    ? (reply: R, ...args: A) => R | Promise<R>
    : never,
): void {
  const right = object[name] as (...args: unknown[]) => Promise<unknown>;
  const wrong = async (...args: unknown[]) =>
    (change as (reply: unknown, ...rest: unknown[]) => unknown)(await right(...args), ...args);
  object[name] = wrong as O[K];
}
