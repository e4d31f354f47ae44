/**
 * @file The files that browsers get: pages and modules of public/, and uPlot from node_modules. Read once, served from memory.
 */
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** One file. */
export interface StaticFile {
  readonly body: Uint8Array<ArrayBuffer>;
  readonly type: string;
}

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Copied beside the compiled code by scripts/after-build.mjs. */
const PUBLIC = fileURLToPath(new URL("./public/", import.meta.url));

/** Files by name: `index.html`, `run.js`, `uplot.js`. */
export function loadStaticFiles(): ReadonlyMap<string, StaticFile> {
  const require = createRequire(import.meta.url);
  const files = new Map(readdirSync(PUBLIC).map((name) => [name, read(join(PUBLIC, name))]));
  files.set("uplot.js", read(require.resolve("uplot/dist/uPlot.iife.min.js")));
  files.set("uplot.css", read(require.resolve("uplot/dist/uPlot.min.css")));
  return files;
}

function read(path: string): StaticFile {
  return {
    body: new Uint8Array(readFileSync(path)),
    type: TYPES[extname(path)] ?? "application/octet-stream",
  };
}
