/** @file docs/conformance.md lists the checks that there are, in the words of the kit. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CONFORMANCE_KINDS, checksOf } from "../../cli/conformance/run.js";
import { packageRoot } from "../../lib/config/package-root.js";

/** Rows of the checks' tables by heading: `| `id` | promise |`. */
function tables(page: string): Map<string, string[]> {
  const sections = page.split(/^### /m).slice(1);
  return new Map(
    sections.map((section) => {
      const rows = [...section.matchAll(/^\| `([^`]+)` \| (.+) \|$/gm)].map(
        ([, id, what]) => `${id}: ${what}`,
      );
      return [section.split("\n")[0] as string, rows];
    }),
  );
}

describe("docs/conformance.md", () => {
  const page = readFileSync(join(packageRoot(), "docs", "conformance.md"), "utf8");
  const written = tables(page);

  for (const kind of CONFORMANCE_KINDS) {
    it(`lists the checks of ${kind}`, () => {
      const common = written.get("Every service") ?? [];
      const all = checksOf(kind).map(({ id, what }) => `${id}: ${what}`);
      assert.deepEqual([...common, ...(written.get(kind) ?? [])].sort(), all.sort());
    });
  }
});
