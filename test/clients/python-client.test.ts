/**
 * @file The Python client of examples/clients/python: against a real reward server, in the clear and with TLS and token, and against a
 * server that fails as it is told to, which shows what is tried again, when, and for how long.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { implement, KitError, QueueFullError, type RunningServer, startServer } from "../../lib/rpc/index.js";
import { silentLog } from "../../lib/telemetry/index.js";
import { blocksOf } from "../docs/markdown.js";
import type { Service } from "../support/processes.js";
import { useSandbox } from "../support/sandbox.js";
import { type Ended, PYTHON_CLIENT, pythonOrSkip, runPython } from "./peers.js";
import { startPlain, startSecure, TOKEN } from "./reward-servers.js";

/** Runs a program of the client; it gets the arguments, and its last line of output is read as JSON. */
async function run(python: string, program: string, ...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await runPython(python, ["-c", `${PREAMBLE}\n${program}`, ...args]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Record<string, unknown>;
}

const PREAMBLE = `
import json, sys, time
from reward_client import RewardClient, RewardError

def failure(call):
    """What a call fails with, and after how long."""
    began = time.monotonic()
    try:
        call()
    except RewardError as error:
        facts = {name: getattr(error, name) for name in ("status", "message", "reason", "facts", "violations", "retry_delay", "request_id")}
        return {**facts, "text": str(error), "seconds": time.monotonic() - began}
    raise SystemExit("the call succeeded")
`;

describe("the Python client", function () {
  this.timeout(90_000);
  const sandbox = useSandbox("all");
  let python: string;
  let server: Service;
  before(async function () {
    python = pythonOrSkip(this);
    server = await startPlain(sandbox());
  });

  it("does what the ten lines of its README say", async () => {
    const readme = readFileSync(join(PYTHON_CLIENT, "README.md"), "utf8");
    const program = blocksOf(readme).find(({ language }) => language === "python")?.text ?? "";
    assert.ok(program.includes("127.0.0.1:50052"));
    const { code, stdout, stderr } = await runPython(python, [
      "-c",
      program.replace("127.0.0.1:50052", server.address),
    ]);
    assert.equal(code, 0, stderr);
    const [info, first, second, refused] = stdout.trimEnd().split("\n");
    assert.equal(info, "bert-tiny-classifier ['LABEL_0', 'LABEL_1'] reward: LABEL_1");
    for (const line of [first, second])
      assert.match(line ?? "", /^0\.\d+ \{'LABEL_0': -?\d\.\d+, 'LABEL_1': -?\d\.\d+\}$/);
    assert.equal(refused, "INVALID_ARGUMENT INVALID_FIELD {'texts': 'has 0 items; accepted: at least 1'}");
  });

  it("scores as docs/reward-service.md shows", async () => {
    const page = readFileSync(join(packageRoot(), "docs/reward-service.md"), "utf8");
    const [program] = blocksOf(page).filter(({ language }) => language === "python");
    const code = program?.text.replace("127.0.0.1:50052", server.address) ?? "";
    const { stdout, stderr } = await runPython(python, ["-c", code]);
    assert.match(stdout, /^\[0\.\d+, 0\.\d+\]\n$/, stderr);
  });

  it("passes every option on, and reads every detail of an error", async () => {
    const seen = await run(
      python,
      `
with RewardClient(sys.argv[1]) as rewards:
    reply = rewards.score(["a", "b"], text_pairs=["c", "d"], label="LABEL_0", function="NONE", model="bert-tiny-classifier")
    same = all(result.reward == result.scores[0].logit for result in reply.results)
    cut = rewards.score(["word " * 700], truncate=True).results[0].truncated
    long = failure(lambda: rewards.score(["short", "word " * 700]))
    print(json.dumps({"label": reply.label, "function": reply.function, "same": same, "cut": cut, "long": long}))`,
      server.address,
    );
    assert.deepEqual([seen.label, seen.function, seen.same, seen.cut], ["LABEL_0", 3, true, true]);
    const long = seen.long as Record<string, unknown> & { facts: Record<string, string>; violations: object };
    assert.deepEqual(
      [long.status, long.reason, long.facts.max],
      ["INVALID_ARGUMENT", "INPUT_TOO_LONG", "512"],
    );
    assert.deepEqual(Object.keys(long.violations), ["texts[1]"]);
    assert.match(String(long.request_id), /./);
    assert.match(
      String(long.text),
      /^INVALID_ARGUMENT \(INPUT_TOO_LONG\): texts\[1\].*\n {2}texts\[1\]: has \d+ tokens/,
    );
  });

  it("speaks TLS with certificates of both sides, and sends the current token", async () => {
    const { service, authority, tokenFile } = await startSecure(sandbox(), { clients: true });
    const { certFile, keyFile } = authority.issue("caller.test");
    const seen = await run(
      python,
      `
address, ca, cert, key, token_file = sys.argv[1:]
options = dict(ca_file=ca, cert_file=cert, key_file=key)
with RewardClient(address, token=lambda: open(token_file).read().strip(), **options) as rewards:
    count = len(rewards.score(["a", "b"]).results)
with RewardClient(address, **options) as rewards:
    without = failure(lambda: rewards.score(["a"]))
with RewardClient(address, token="not-a-known-token", **options) as rewards:
    wrong = failure(lambda: rewards.score(["a"]))
with RewardClient(address, ca_file=ca, timeout=2) as rewards:
    stranger = failure(lambda: rewards.score(["a"]))
print(json.dumps({"count": count, "without": without, "wrong": wrong, "stranger": stranger}))`,
      ...[service.address, authority.caFile, certFile, keyFile, tokenFile],
    );
    const statusOf = (name: string) => (seen[name] as { status: string }).status;
    assert.deepEqual(
      [seen.count, statusOf("without"), statusOf("wrong")],
      [2, "UNAUTHENTICATED", "UNAUTHENTICATED"],
    );
    assert.ok(["UNAVAILABLE", "DEADLINE_EXCEEDED"].includes(statusOf("stranger")), statusOf("stranger"));
    assert.equal(readFileSync(tokenFile, "utf8").trim(), TOKEN);
  });

  it("never sends a token in the clear to another machine", async () => {
    const seen = await run(
      python,
      `
refused = []
for address in ("reward.example:50052", "dns:///reward.example:50052", "192.0.2.1:50052", "[2001:db8::1]:50052"):
    try:
        RewardClient(address, token="secret-token")
    except ValueError as error:
        refused.append(str(error))
for address in ("127.0.0.1:1", "localhost:1", "[::1]:1", "dns:///localhost:1", "unix:/tmp/socket"):
    RewardClient(address, token="secret-token").close()
RewardClient("reward.example:50052", token="secret-token", tls=True).close()
print(json.dumps({"refused": refused}))`,
    );
    const refused = seen.refused as string[];
    assert.equal(refused.length, 4);
    for (const message of refused) assert.match(message, /is not on this machine and has no TLS/);
  });

  it("has modules that are what proto/ gives", async function () {
    const generator = pythonOrSkip(this, "grpc_tools");
    const { code, stderr } = await runPython(generator, [join(PYTHON_CLIENT, "generate.py"), "--check"]);
    assert.equal(code, 0, stderr);
  });
});

describe("the Python client, where calls fail", function () {
  this.timeout(60_000);
  let python: string;
  let server: RunningServer;
  /** What the server answers a call with, by the number of the call from 1; undefined scores. */
  let fail: (call: number) => Error | undefined;
  /** When calls arrived, in milliseconds. */
  let arrivals: number[];

  before(async function () {
    python = pythonOrSkip(this);
    const score = ({ texts }: { texts: string[] }) => {
      arrivals.push(performance.now());
      const error = fail(arrivals.length);
      if (error) throw error;
      return { results: texts.map((text) => ({ reward: text.length })), model: "length" };
    };
    const services = [implement(RewardService, { score, getInfo: () => ({}) })];
    server = await startServer({ name: "reward", services, listen: "127.0.0.1:0", log: silentLog() });
  });
  beforeEach(() => {
    arrivals = [];
  });
  after(() => server?.drain());

  const failing = (options: string) =>
    run(
      python,
      `
with RewardClient(sys.argv[1], ${options}) as rewards:
    print(json.dumps(failure(lambda: rewards.score(["abc"]))))`,
      server.address,
    );

  it("tries again what the server could not take, never sooner than it asks for", async () => {
    fail = (call) => (call <= 2 ? new QueueFullError("full", 400) : undefined);
    const { reward } = await run(
      python,
      `
with RewardClient(sys.argv[1]) as rewards:
    print(json.dumps({"reward": rewards.score(["abc"]).results[0].reward}))`,
      server.address,
    );
    assert.equal(reward, 3);
    assert.equal(arrivals.length, 3);
    for (const [i, at] of arrivals.entries()) {
      if (i > 0) assert.ok(at - (arrivals[i - 1] as number) >= 395, `attempt ${i + 1} came too soon`);
    }
  });

  it("gives up after its attempts, with the last error", async () => {
    fail = () => new KitError("NOT_READY", "the model is loading", { retryAfterMs: 10 });
    const error = await failing("attempts=3");
    assert.deepEqual([error.status, error.reason, arrivals.length], ["UNAVAILABLE", "NOT_READY", 3]);
    assert.equal(error.retry_delay, 0.01);
  });

  it("does not wait for a time that its deadline has not", async () => {
    fail = () => new QueueFullError("full", 20_000);
    const error = await failing("timeout=5");
    assert.deepEqual([error.status, arrivals.length], ["RESOURCE_EXHAUSTED", 1]);
    assert.ok((error.seconds as number) < 4, `${error.seconds} s`);
  });

  it("does not try again what would fail alike", async () => {
    for (const [code, status] of [
      ["MESSAGE_TOO_LARGE", "RESOURCE_EXHAUSTED"], // with grpc-retry-pushback-ms: -1
      ["UNKNOWN_MODEL", "NOT_FOUND"],
      ["INTERNAL", "INTERNAL"],
    ] as const) {
      arrivals = [];
      fail = () => new KitError(code, "no");
      const error = await failing("attempts=4");
      assert.deepEqual([error.status, arrivals.length], [status, 1], code);
    }
  });

  it("ends at its deadline where the server does not answer, and says so", async () => {
    const silent: Ended = await runPython(python, [
      "-c",
      `${PREAMBLE}
import socket
with socket.create_server(("127.0.0.1", 0)) as deaf, RewardClient("127.0.0.1:%d" % deaf.getsockname()[1], timeout=1) as rewards:
    print(json.dumps(failure(lambda: rewards.score(["a"]))))`,
    ]);
    const error = JSON.parse(silent.stdout) as { status: string; seconds: number };
    assert.ok(["DEADLINE_EXCEEDED", "UNAVAILABLE"].includes(error.status), error.status);
    assert.ok(error.seconds < 10, `${error.seconds} s`);
  });
});
