/**
 * @file Finds the root folder of this package, for files that ship beside the code (protos, examples, golden data).
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

let cached: string | undefined;

/** The folder that holds our package.json, whether the code runs from source or from `dist/`. Throws if there is none. */
export function packageRoot(): string {
  if (cached) return cached;
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    if (existsSync(join(folder, "package.json"))) {
      cached = folder;
      return folder;
    }
    const parent = dirname(folder);
    if (parent === folder) throw new Error("package.json of rlhf-mesh not found above the running code");
    folder = parent;
  }
}
