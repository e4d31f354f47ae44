/** @file Waiting for a condition of another process, where nothing tells us: looked at often, and never for ever. */

/** Resolves with the first truthy value of `look`. Rejects with `what` after `timeoutMs`. Errors of `look` reject at once. */
export async function eventually<T>(
  look: () => T | Promise<T>,
  what: () => string,
  timeoutMs = 30_000,
): Promise<NonNullable<T>> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const value = await look();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not in ${timeoutMs} ms: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
