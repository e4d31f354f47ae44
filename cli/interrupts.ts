/** @file Ctrl-C: the first asks to end in order, the second ends at once. */
import { EXIT } from "./exit-codes.js";

/** Installs handlers for SIGINT and SIGTERM; returns what removes them. */
export function onInterrupt(first: () => void, second: () => void): () => void {
  let count = 0;
  const handle = () => {
    count += 1;
    if (count === 1) return first();
    second();
    process.exit(EXIT.interrupted);
  };
  process.on("SIGINT", handle);
  process.on("SIGTERM", handle);
  return () => {
    process.off("SIGINT", handle);
    process.off("SIGTERM", handle);
  };
}
