import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../main.js", import.meta.url));

describe("the dashboard from the command line", function () {
  this.timeout(60_000);
  let folder: string;
  const children: ChildProcess[] = [];
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "rlhf-cli-dashboard-"));
  });
  afterEach(() => {
    for (const child of children.splice(0)) child.kill("SIGKILL");
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Starts the command line; `find` waits for what it prints on either stream. */
  function start(...args: string[]) {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    children.push(child);
    let text = "";
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const find = (pattern: RegExp) =>
      new Promise<string>((resolve, reject) => {
        const look = () => {
          const found = pattern.exec(text)?.[1];
          if (found !== undefined) resolve(found);
        };
        for (const stream of [child.stdout, child.stderr]) {
          stream?.on("data", (chunk) => {
            text += chunk;
            look();
          });
        }
        void ended.then((status) => reject(new Error(`ended with ${status}: ${text}`)));
      });
    return { child, ended, find };
  }

  it("is served until it is interrupted", async () => {
    const { child, ended, find } = start(
      "--json",
      "dashboard",
      "--runs-dir",
      folder,
      "--listen",
      "127.0.0.1:0",
    );
    const url = await find(/"url":"(http:[^"]+)"/);
    assert.deepEqual(await (await fetch(`${url}/api/runs`)).json(), { directory: folder, runs: [] });
    child.kill("SIGINT");
    assert.equal(await ended, 0);
  });

  it("is refused where others could reach it, with status 2", async () => {
    const { ended, find } = start("dashboard", "--listen", "0.0.0.0:0");
    assert.match(await find(/(listen: .*)/), /0\.0\.0\.0:0 can be reached from other machines.*--insecure/);
    assert.equal(await ended, 2);
  });

  it("is served by the trainer, too", async () => {
    const { child, ended, find } = start(
      ...["serve", "trainer", "--runs-dir", folder, "--dashboard-listen", "127.0.0.1:0"],
    );
    const url = await find(/"url":"(http:[^"]+)"/);
    assert.equal((await fetch(url)).status, 200);
    assert.equal((await fetch(`${url}/runs/nope`)).status, 404);
    child.kill("SIGTERM");
    assert.equal(await ended, 0);
  });
});
