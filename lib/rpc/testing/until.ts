/** @file Waits for a condition, for tests: a condition is awaited, never slept for. */

/** Resolves once `holds` does. Rejects after `ms` (default 5 s), naming the condition's text. */
export async function until(holds: () => boolean | Promise<boolean>, ms = 5000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`still not true after ${ms} ms: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
