/**
 * @file docs/reward-service.md held against the service: every command of the page that needs no container, registry or build is run in
 * the page's order, and its tables of fields, errors, limits and flags are those of the code.
 */
import assert from "node:assert/strict";
import { chmodSync, cpSync, mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import {
  LabelScoreSchema,
  RewardService,
  ScoreRequestSchema,
  ScoreResponseSchema,
  TextScoreSchema,
} from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { codeTable, statusName } from "../../lib/rpc/codes.js";
import { blocksOf } from "../docs/markdown.js";
import { RLHF } from "../support/processes.js";
import { useSandbox } from "../support/sandbox.js";
import { BUF, grpcurlOrSkip, runProgram } from "./peers.js";
import { CLASSIFIER, startPlain } from "./reward-servers.js";

const PAGE = readFileSync(join(packageRoot(), "docs/reward-service.md"), "utf8");
/** Address on the page; tests take free ones. */
const ADDRESS = "127.0.0.1:50052";
/** What is not run here: installing, building, containers. */
const LEFT_OUT = /^(npm ci|alias rlhf=|docker )/;
/** A command for the server with TLS, or one that makes what it needs. */
const SECURE = /cert\.pem/;

/** A command of the page, and the exit status that its comment announces. */
interface Command {
  readonly text: string;
  readonly status: number;
}

const commands: Command[] = blocksOf(PAGE)
  .filter(({ language }) => language === "sh")
  .flatMap(({ text }) => text.replaceAll("\\\n", " ").trimEnd().split("\n"))
  .map((line) => ({ text: line, status: Number(/# exit status (\d+)$/.exec(line)?.[1] ?? 0) }));

/** Text below a heading, up to the next one of any level. */
function sectionOf(heading: string): string {
  const [, rest] = PAGE.split(new RegExp(`\\n#+ ${heading}\\n`));
  assert.ok(rest, `the page has a section ${heading}`);
  return rest.split(/\n#+ /)[0] as string;
}

/** Rows of the tables below a heading that begin with a code in backquotes, by that code; cells without backquotes. */
function rowsBelow(heading: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of sectionOf(heading).split("\n")) {
    if (!line.startsWith("| `")) continue;
    const cells = line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
    for (const [, name] of (cells[0] as string).matchAll(/`([^`]+)`/g)) {
      assert.ok(!found.has(name as string), `${name} stands once`);
      found.set(name as string, cells);
    }
  }
  return found;
}

describe("docs/reward-service.md", function () {
  this.timeout(120_000);
  const sandbox = useSandbox("all");

  it("shows commands that work, one after the other", async function () {
    const grpcurl = grpcurlOrSkip(this);
    const box = sandbox();
    cpSync(CLASSIFIER, box.path("reward-model"), { recursive: true });
    mkdirSync(box.path("tools"));
    for (const [name, command] of [
      ["rlhf", `exec "${process.execPath}" "${RLHF}" "$@"`],
      ["grpcurl", `exec "${grpcurl}" "$@"`],
      ["npx", `shift; exec "${BUF}" "$@"`],
    ] as const) {
      chmodSync(box.write(join("tools", name), `#!/bin/sh\n${command}\n`), 0o755);
    }
    const [plain, secure] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
    const options = { cwd: box.directory, env: { PATH: `${box.path("tools")}:${process.env.PATH ?? ""}` } };
    let ran = 0;
    for (const { text, status } of commands) {
      if (LEFT_OUT.test(text)) continue;
      const command = text.replaceAll(ADDRESS, SECURE.test(text) ? secure : plain);
      if (command.startsWith("rlhf serve ")) {
        await box.start([...command.split(" ").slice(1), "--threads", "1"]).seen(/"event":"ready"/);
      } else {
        const { code, stdout, stderr } = await runProgram("bash", ["-euc", command], options);
        assert.equal(code, status, `${command}\n${stdout}\n${stderr}`);
      }
      ran += 1;
    }
    assert.ok(ran >= 20, `${ran} commands`);
  });

  it("prints the error of a bad request as grpcurl does", async function () {
    const grpcurl = grpcurlOrSkip(this);
    const { address } = await startPlain(sandbox());
    const [command] = commands.filter(({ status }) => status === 67);
    const request = /-d '([^']+)'/.exec(command?.text ?? "")?.[1] as string;
    const call = ["-plaintext", "-d", request, address, `${RewardService.typeName}/Score`];
    const { stderr } = await runProgram(grpcurl, call);
    const shown = blocksOf(PAGE).find(({ text }) => text.startsWith("ERROR:"))?.text as string;
    assert.ok(stderr.startsWith(shown), stderr);
  });

  it("has every reason of an error, with the status that the code gives it", () => {
    const found = rowsBelow("Every error and what to do");
    const { NON_FINITE: nan, ...table } = codeTable;
    assert.equal(nan.status, codeTable.INTERNAL.status, "a model's NaN is told as INTERNAL, without detail");
    const expected = new Map([
      ...Object.entries(table).map(([code, rule]) => [code, statusName(rule.status)] as const),
      ["INPUT_TOO_LONG", "INVALID_ARGUMENT"] as const, // a finer reason of INVALID_FIELD
    ]);
    const shown = new Map([...found].map(([reason, [, status]]) => [reason, status]));
    assert.deepEqual(Object.fromEntries([...shown].sort()), Object.fromEntries([...expected].sort()));
  });

  it("has every finer reason that the reward service and the kit give", () => {
    const sources = ["lib/rpc/validate.ts", "services/reward/service.ts"];
    const given = sources.flatMap((file) =>
      [...readFileSync(join(packageRoot(), file), "utf8").matchAll(/\breason: "([A-Z_]+)"/g)].map(
        ([, name]) => name as string,
      ),
    );
    assert.ok(given.length > 0);
    const found = rowsBelow("Every error and what to do");
    for (const reason of given) assert.ok(found.has(reason), reason);
  });

  it("has every field of request and reply, every limit with its default, and flags with theirs", async () => {
    assert.deepEqual(
      [...rowsBelow("ScoreRequest").keys()],
      ScoreRequestSchema.fields.map(({ name }) => name),
    );
    const reply = sectionOf("ScoreResponse");
    for (const { name } of [
      ...TextScoreSchema.fields,
      ...LabelScoreSchema.fields,
      ...ScoreResponseSchema.fields,
    ]) {
      assert.match(reply, new RegExp(`[\`.]${name}(\\[\\])?[\`.[]`), name);
    }
    const { address } = await startPlain(sandbox());
    const { server } = await sandbox().client(RewardService, address).getInfo({});
    const limits = rowsBelow("Limits");
    assert.deepEqual([...limits.keys()].sort(), Object.keys(server?.limits ?? {}).sort());
    for (const [name, value] of Object.entries(server?.limits ?? {})) {
      const [names = "", said = ""] = limits.get(name) as string[];
      if (name === "max_tokens") continue; // the model's
      const place = names.split(",").findIndex((each) => each.includes(`\`${name}\``));
      const [number, unit] = ((said.split(", ")[place] ?? said).match(/^(\d+)(?: (KiB|MiB))?$/) ?? []).slice(
        1,
      );
      const factor = { KiB: 1024n, MiB: 1024n ** 2n }[unit ?? ""] ?? 1n;
      assert.equal(BigInt(number ?? -1) * factor, value, `${name}: ${said}`);
    }
    const { stdout: help } = await sandbox().rlhf(["serve", "reward", "--help"]);
    for (const [flag, [names = "", said = ""]] of rowsBelow("Size it")) {
      const shown = new RegExp(`^ {2}${flag} .*$`, "m").exec(help)?.[0];
      assert.ok(shown, flag);
      const place = names.split(",").findIndex((each) => each.includes(flag));
      const number = /^\d+/.exec(said.split(", ")[place] ?? said)?.[0];
      if (number) assert.ok(shown.endsWith(`(default ${number})`), `${flag}: ${said} and ${shown}`);
    }
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
