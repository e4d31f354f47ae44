/**
 * @file The contract with clients of the last release (scripts/contract.mjs, a step of `npm run lint`): put to copies of proto/ with one
 * change each. What breaks a client is found by file and name; what only adds is let through.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../lib/config/package-root.js";

const REWARD = "proto/rlhf/reward/v1/reward.proto";
const TYPES = "proto/rlhf/types/v1/types.proto";

/** A copy of the repository's contract that a test may change. */
class ContractCopy {
  readonly directory = mkdtempSync(join(tmpdir(), "rlhf-contract-"));

  constructor() {
    const root = packageRoot();
    mkdirSync(join(this.directory, "scripts"));
    for (const name of ["proto", "buf.yaml", "package.json", "scripts/contract.mjs"]) {
      cpSync(join(root, name), join(this.directory, name), { recursive: true });
    }
    symlinkSync(join(root, "node_modules"), join(this.directory, "node_modules"));
  }

  /** Replaces the one place in a file where `before` stands. */
  change(file: string, before: string, after: string): void {
    const path = join(this.directory, file);
    const parts = readFileSync(path, "utf8").split(before);
    assert.equal(parts.length, 2, `${file} holds ${JSON.stringify(before)} once`);
    writeFileSync(path, parts.join(after));
  }

  /** Runs the script. */
  check(...args: string[]): { status: number | null; said: string } {
    const { status, stdout, stderr } = spawnSync(process.execPath, ["scripts/contract.mjs", ...args], {
      cwd: this.directory,
      encoding: "utf8",
    });
    return { status, said: stdout + stderr };
  }

  /** Names of the released images. */
  images(): string[] {
    return readdirSync(join(this.directory, "proto/released"));
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

describe("the contract with clients of the last release", function () {
  this.timeout(30_000);
  let copy: ContractCopy;
  beforeEach(() => {
    copy = new ContractCopy();
  });
  afterEach(() => copy.remove());

  it("is kept by proto/ as it is, and is checked by `npm run lint`", () => {
    const { status, said } = copy.check();
    assert.equal(status, 0, said);
    const manifest = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    assert.match(manifest.scripts.lint ?? "", /(^|&& )node scripts\/contract\.mjs($| &&)/);
  });

  const broken: [change: string, file: string, before: string, after: string, said: RegExp][] = [
    [
      "a field gets another number",
      REWARD,
      "int32 token_count = 3;",
      "int32 token_count = 5;",
      /"3" with name "token_count"/,
    ],
    [
      "a field gets another type",
      REWARD,
      "double logit = 3;",
      "float logit = 3;",
      /"logit".*from "double" to "float"/,
    ],
    [
      "a field gets another name",
      REWARD,
      "bool truncated = 4;",
      "bool cut = 4;",
      /from "truncated" to "cut"/,
    ],
    [
      "a field loses its presence",
      REWARD,
      "optional double reward = 1;",
      "double reward = 1;",
      /"reward".*cardinality/,
    ],
    [
      "a number is put to another use",
      TYPES,
      "string digest = 2;",
      "bytes digest = 2;",
      /"digest".*from "string" to "bytes"/,
    ],
    [
      "an enum value is taken away",
      REWARD,
      "SCORE_FUNCTION_NONE = 3;",
      "SCORE_FUNCTION_RAW = 4;",
      /"3" on enum "ScoreFunction"/,
    ],
    [
      "a method gets another name",
      REWARD,
      "rpc Score(",
      "rpc Rate(",
      /RPC "Score" on service "RewardService"/,
    ],
    [
      "a service gets another package",
      REWARD,
      "package rlhf.reward.v1;",
      "package rlhf.rewards.v1;",
      /package/,
    ],
  ];
  for (const [change, file, before, after, expected] of broken) {
    it(`is broken if ${change}: the check fails and says where`, () => {
      copy.change(file, before, after);
      const { status, said } = copy.check();
      assert.equal(status, 1, said);
      assert.match(said, expected);
      assert.match(said, new RegExp(`${file.replace("proto/", "")}:\\d+`));
    });
  }

  it("is kept if a field, a message and a method are added; released, they are part of it", () => {
    copy.change(REWARD, "// Asks for the server's description.", "// More.\nmessage Extra {}\n// Asks.");
    copy.change(REWARD, "bool truncated = 4;", "bool truncated = 4;\n  // Why.\n  string reason = 5;");
    assert.equal(copy.check().status, 0);
    copy.change("package.json", '"version": "0.1.0"', '"version": "0.2.0"');
    const { status, said } = copy.check("--release");
    assert.equal(status, 0, said);
    assert.deepEqual(copy.images(), ["v0.2.0.json"]);
    assert.equal(copy.check().status, 0);
    copy.change(REWARD, "string reason = 5;", "");
    assert.match(copy.check().said, /v0\.2\.0:[\s\S]*"5" with name "reason"/);
  });

  it("that is broken is never released, and one that is missing is no contract kept", () => {
    copy.change(REWARD, "double logit = 3;", "float logit = 3;");
    const before = copy.images();
    assert.equal(copy.check("--release").status, 1);
    assert.deepEqual(copy.images(), before);
    for (const image of before) rmSync(join(copy.directory, "proto/released", image));
    const { status, said } = copy.check();
    assert.equal(status, 1);
    assert.match(said, /expected one image vX\.Y\.Z\.json, found none/);
  });
});
