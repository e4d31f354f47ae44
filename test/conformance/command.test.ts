/** @file `rlhf conformance` as a user meets it: what it prints, exit statuses, selections, and servers that are none. */
import assert from "node:assert/strict";
import { createServer as createHttp } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from "node:net";
import { CONFORMANCE_KINDS, checksOf } from "../../cli/conformance/run.js";
import { useSandbox } from "../support/sandbox.js";
import { bertscoreToy } from "./toy/bertscore.js";
import { Refusal } from "./toy/refusal.js";
import { rewardToy } from "./toy/reward.js";
import { startToy, type Toy } from "./toy/server.js";

describe("rlhf conformance", function () {
  this.timeout(60_000);
  const sandbox = useSandbox("all");

  async function serve(toy: Toy): Promise<string> {
    const { address, stop } = await startToy(toy);
    sandbox().defer(stop);
    return address;
  }

  /** A server of another kind, on a free port. */
  async function listen(server: Server): Promise<string> {
    const open = new Set<Socket>();
    server.on("connection", (socket: Socket) => open.add(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    sandbox().defer(() => {
      for (const socket of open) socket.destroy();
      server.close();
    });
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  const rlhf = (...args: string[]) => sandbox().rlhf(args);

  it("lists its checks without a server", async () => {
    for (const kind of CONFORMANCE_KINDS) {
      const { code, stdout } = await rlhf("conformance", kind, "--list");
      assert.equal(code, 0);
      const lines = stdout.trimEnd().split("\n");
      assert.equal(lines.length, checksOf(kind).length);
      for (const [i, { id, what }] of checksOf(kind).entries()) {
        assert.ok(lines[i]?.startsWith(`${id} `) && lines[i]?.endsWith(what), lines[i]);
      }
    }
  });

  it("says what it saw and ends with 0 where nothing is wrong", async () => {
    const address = await serve(rewardToy());
    const { code, stdout } = await rlhf(
      "conformance",
      "reward",
      address,
      "--only",
      "errors",
      "--only",
      "auth",
    );
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^pass {2}errors\/details +a refusal carries/m);
    assert.match(stdout, /^skip {2}auth\/token .*\n +no --token-file was given$/m);
    assert.match(stdout, /\n7 passed, 0 failed, 2 could not be told\n$/);
  });

  it("names what is wrong and ends with 1, for people and as JSON", async () => {
    const toy = rewardToy();
    toy.most.items = 1000;
    toy.habits.refuse = ({ code, message }) => ({ code, details: `${message} \u001b[31m` });
    const address = await serve(toy);
    const select = ["--only", "limits/items", "--only", "errors/empty", "--only", "info"];
    const { code, stdout, stderr } = await rlhf("conformance", "reward", address, ...select);
    assert.equal(code, 1);
    assert.match(stdout, /^FAIL {2}limits\/items .*\n +33 texts: it was accepted$/m);
    assert.match(
      stdout,
      /^FAIL {2}errors\/empty .*\n +no texts: .* without a BadRequest detail that names texts$/m,
    );
    assert.match(stdout, /\n3 passed, 2 failed\n$/);
    assert.match(stderr, new RegExp(`${address} does not keep the contract of reward: 2 checks failed`));
    assert.ok(!stdout.includes("\u001b"), "nothing that a server says reaches the terminal as it is");
    const json = await rlhf("--json", "conformance", "reward", address, ...select);
    assert.equal(json.code, 1);
    const { service, passed, failed, skipped, checks } = JSON.parse(json.stdout);
    assert.deepEqual([service, passed, failed, skipped], ["reward", 3, 2, 0]);
    const { outcome, detail, what } = checks.find(({ id }: { id: string }) => id === "limits/items");
    assert.deepEqual([outcome, detail], ["fail", "33 texts: it was accepted"]);
    assert.match(what, /one more is refused/);
  });

  it("leaves out what --skip names, and refuses a name that is no check", async () => {
    const address = await serve(bertscoreToy());
    const select = ["--only", "errors", "--skip", "errors/garbage", "--skip", "errors/details"];
    const { stdout } = await rlhf("--json", "conformance", "bertscore", address, ...select);
    const ids = JSON.parse(stdout).checks.map(({ id }: { id: string }) => id);
    const all = checksOf("bertscore").map(({ id }) => id);
    assert.deepEqual(
      ids,
      all.filter((id) => id.startsWith("errors/") && !/garbage|details/.test(id)),
    );
    const wrong = await rlhf("conformance", "bertscore", address, "--only", "erors");
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /"erors" names no check; accepted: info, errors, limits/);
  });

  it("refuses a service without a contract and a missing address with 2", async () => {
    const none = await rlhf("conformance", "trainer", "127.0.0.1:1");
    assert.equal(none.code, 2);
    assert.match(none.stderr, /"trainer" has no contract; expected reward, policy, bertscore/);
    const missing = await rlhf("conformance", "reward");
    assert.equal(missing.code, 2);
    assert.match(missing.stderr, /an address is missing/);
    const file = await rlhf("conformance", "reward", "127.0.0.1:1", "--token-file", "no-such-file");
    assert.equal(file.code, 2);
    assert.match(file.stderr, /no-such-file/);
    const address = await rlhf("conformance", "reward", "http://127.0.0.1:1");
    assert.equal(address.code, 2);
    assert.match(address.stderr, /accepted: host:port/);
  });

  it("says that nobody answers, or nobody who lets it in, and checks nothing", async () => {
    const nobody = await rlhf("conformance", "reward", "127.0.0.1:1", "--timeout", "3000");
    assert.equal(nobody.code, 3);
    assert.match(nobody.stderr, /127\.0\.0\.1:1: UNAVAILABLE/);
    assert.equal(nobody.stdout, "");
    const toy = rewardToy();
    toy.kept.token = "toy-token-1";
    const address = await serve(toy);
    const refused = await rlhf("conformance", "reward", address);
    assert.equal(refused.code, 4);
    assert.match(refused.stderr, /UNAUTHENTICATED/);
    const token = sandbox().write("token", "toy-token-1\n");
    const accepted = await rlhf("conformance", "reward", address, "--token-file", token, "--only", "auth");
    assert.equal(accepted.code, 0, accepted.stdout);
    assert.match(accepted.stdout, /2 passed, 0 failed/);
  });

  it("says in time that a server speaks no gRPC, whatever it speaks", async () => {
    const page = (
      _: unknown,
      response: { writeHead(status: number): unknown; end(text: string): unknown },
    ) => {
      response.writeHead(404);
      response.end("<h1>not here</h1>");
    };
    const servers = {
      "HTTP/1.1": createHttp(page),
      "HTTP/2": createHttp2(page),
      "nothing at all": createTcp(() => {}),
      "lines of text": createTcp((socket) => socket.on("error", () => {}).end("220 ready\r\n")),
    };
    for (const [speaks, server] of Object.entries(servers)) {
      const address = await listen(server as Server);
      const { code, stdout, stderr } = await rlhf("conformance", "reward", address, "--timeout", "3000");
      assert.equal(code, 3, `${speaks}: ${stdout}${stderr}`);
      assert.ok(stderr.includes(address), `${speaks}: ${stderr}`);
      assert.equal(stdout, "", speaks);
    }
  });

  it("holds every check against a server of another service", async () => {
    const address = await serve(bertscoreToy());
    const select = ["--only", "info", "--only", "score/batch", "--only", "reflection/v1"];
    const { code, stdout } = await rlhf("conformance", "reward", address, ...select);
    assert.equal(code, 1);
    assert.match(stdout, /^FAIL {2}info\/model .*\n +the server has no GetInfo$/m);
    assert.match(stdout, /^FAIL {2}score\/batch .*\n.*UNIMPLEMENTED/m);
    assert.match(
      stdout,
      /^FAIL {2}reflection\/v1 .*\n +rlhf\.reward\.v1\.RewardService is not listed, but rlhf\.bertscore/m,
    );
  });

  it("goes on after a check that could not be made", async () => {
    const toy = rewardToy();
    toy.health.check = () => Promise.reject(new Refusal(14, "probe the other port", "ELSEWHERE"));
    const { code, stdout } = await rlhf("conformance", "reward", await serve(toy), "--only", "health");
    assert.equal(code, 1);
    assert.match(stdout, /^FAIL {2}health\/check .*\n.*probe the other port/m);
    assert.match(stdout, /^pass {2}health\/list/m);
  });
});
