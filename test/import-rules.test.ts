/**
 * @file The rooms of docs/architecture.md and which may import which. A wall that nobody checks is a drawing.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, relative, sep } from "node:path";
import { packageRoot } from "../lib/config/package-root.js";

const root = packageRoot();
const rooms = ["lib", "services", "cli", "dashboard", "bench", "examples", "test"];

/** Rooms of lib/ and what each may import of ours. `config/package-root.js` is open to all. */
const lib: Record<string, readonly string[]> = {
  api: [],
  checkpoint: [],
  config: [],
  dataset: [],
  graph: [],
  telemetry: [],
  tokenizer: [],
  models: ["graph", "checkpoint"],
  engine: ["graph"],
  weights: ["checkpoint", "telemetry"],
  rpc: ["api", "config", "telemetry"],
};

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory())
      return ["gen", "node_modules", "public"].includes(entry.name) ? [] : sources(path);
    return entry.name.endsWith(".ts") ? [path] : [];
  });
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, "utf8");
  return [
    ...text.matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^;"']*?from\s*["']([^"']+)["']|import\(\s*["']([^"']+)["']\s*\)/g,
    ),
  ].map((match) => (match[1] ?? match[2]) as string);
}

/** "lib/graph", "services/policy", "cli", … of a path relative to the root. */
function roomOf(path: string): string {
  const parts = path.split(sep);
  return parts[0] === "lib" || parts[0] === "services" ? `${parts[0]}/${parts[1]}` : (parts[0] as string);
}

interface Arrow {
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly target: string;
}

function arrows(): Arrow[] {
  return rooms
    .flatMap((room) => sources(join(root, room)))
    .flatMap((file) =>
      importsOf(file)
        .filter((specifier) => specifier.startsWith("."))
        .map((specifier) => {
          const target = relative(root, join(dirname(file), specifier));
          const path = relative(root, file);
          return { file: path, from: roomOf(path), to: roomOf(target), target };
        }),
    )
    .filter((arrow) => arrow.from !== arrow.to && !arrow.target.endsWith(join("config", "package-root.js")));
}

/** Tests and benchmarks may look into any room; product code may not. */
const isTest = (file: string) =>
  /\.test\.ts$|test-support\.ts$|(^|[/\\])testing([/\\.]|$)|^test[/\\]|^bench[/\\]/.test(file);

describe("the rooms", () => {
  const all = arrows();
  const product = all.filter((arrow) => !isTest(arrow.file));
  const say = (arrow: Arrow) => `${arrow.file} → ${arrow.target}`;

  it("are found: the check reads a plausible number of imports", () => {
    assert.ok(all.length > 50, `only ${all.length} imports between rooms found`);
  });

  it("of lib import only what their row allows", () => {
    const wrong = product.filter((arrow) => {
      if (!arrow.from.startsWith("lib/")) return false;
      const allowed = lib[arrow.from.slice("lib/".length)];
      assert.ok(allowed, `${arrow.from} is not a known room`);
      return !(arrow.to.startsWith("lib/") && allowed.includes(arrow.to.slice("lib/".length)));
    });
    assert.deepEqual(wrong.map(say), []);
  });

  it("of services import lib, never each other and never the CLI", () => {
    const wrong = product.filter(
      (arrow) => arrow.from.startsWith("services/") && !arrow.to.startsWith("lib/"),
    );
    assert.deepEqual(wrong.map(say), []);
  });

  it("let the CLI and the dashboard meet services only over the wire", () => {
    const wrong = product.filter(
      (arrow) => ["cli", "dashboard"].includes(arrow.from) && arrow.to.startsWith("services/"),
    );
    assert.deepEqual(wrong.map(say), []);
  });

  it("never import from tests or benchmarks", () => {
    const wrong = product.filter(
      (arrow) => ["test", "bench"].includes(arrow.to) || /(^|[/\\])testing([/\\.]|$)/.test(arrow.target),
    );
    assert.deepEqual(wrong.map(say), []);
  });

  it("use only packages that package.json names", () => {
    const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const named = new Set([...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)]);
    const development = new Set([...named, ...Object.keys(manifest.devDependencies)]);
    const wrong = rooms
      .flatMap((room) => sources(join(root, room)))
      .flatMap((file) => importsOf(file).map((specifier) => ({ file: relative(root, file), specifier })))
      .filter(({ specifier }) => !specifier.startsWith("."))
      .filter(({ file, specifier }) => {
        if (specifier.startsWith("node:") || builtinModules.includes(specifier)) return false;
        const name = specifier
          .split("/")
          .slice(0, specifier.startsWith("@") ? 2 : 1)
          .join("/");
        // the second engine is optional: it loads what it finds, and says what is missing
        const optional = file.startsWith(join("lib", "engine", "tfjs"));
        return !(isTest(file) || optional ? development : named).has(name);
      });
    assert.deepEqual(
      wrong.map(({ file, specifier }) => `${file}: ${specifier}`),
      [],
    );
  });
});
