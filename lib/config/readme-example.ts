/** @file Runs the first `js` example of a room's README.md, so that what it says stays true. For tests. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { packageRoot } from "./package-root.js";

/**
 * Runs the first ```js block of `<room>/README.md` (e.g. room `lib/config`) as a module beside the compiled room, where
 * its relative imports resolve, and returns what it exports. Throws when there is no example or when it fails.
 */
export async function runReadmeExample(room: string): Promise<Record<string, unknown>> {
  const readme = readFileSync(join(packageRoot(), room, "README.md"), "utf8");
  const code = /^```js\n([\s\S]*?)^```$/m.exec(readme)?.[1];
  if (!code) throw new Error(`${room}/README.md has no \`\`\`js example`);
  const file = join(packageRoot(), "dist", room, `readme-example-${process.pid}.mjs`);
  writeFileSync(file, code);
  try {
    return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  } finally {
    rmSync(file, { force: true });
  }
}
