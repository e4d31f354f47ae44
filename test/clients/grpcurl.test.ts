/**
 * @file grpcurl against a real reward server: it knows the address alone and learns the rest by reflection, as somebody does who has
 * never seen this repository.
 */
import assert from "node:assert/strict";
import type { Service } from "../support/processes.js";
import { useSandbox } from "../support/sandbox.js";
import { type Ended, grpcurlOrSkip, runProgram } from "./peers.js";
import { type SecureServer, startPlain, startSecure, TOKEN } from "./reward-servers.js";

const SERVICE = "rlhf.reward.v1.RewardService";
const SCORE = `${SERVICE}/Score`;
/** grpcurl's exit status of a failed call is 64 and the gRPC code. */
const INVALID_ARGUMENT = 64 + 3;
const NOT_FOUND = 64 + 5;
const PERMISSION_DENIED = 64 + 7;
const UNAUTHENTICATED = 64 + 16;

describe("grpcurl, with an address and nothing else", function () {
  this.timeout(60_000);
  const sandbox = useSandbox("all");
  let grpcurl: string;
  let server: Service;
  before(async function () {
    grpcurl = grpcurlOrSkip(this);
    server = await startPlain(sandbox());
  });

  const call = (...args: string[]): Promise<Ended> => runProgram(grpcurl, ["-plaintext", ...args]);
  const score = (request: object, ...flags: string[]) =>
    call(...flags, "-d", JSON.stringify(request), server.address, SCORE);

  it("lists the services, the admin services only on their own listener", async () => {
    const { stdout } = await call(server.address, "list");
    const services = [
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
    ];
    assert.deepEqual(stdout.trim().split("\n"), [...services, SERVICE]);
    assert.match(
      (await call(server.adminAddress as string, "list")).stdout,
      /^grpc\.channelz\.v1\.Channelz$/m,
    );
    assert.equal(
      (await call(server.address, "list", SERVICE)).stdout,
      `${SERVICE}.GetInfo\n${SCORE.replace("/", ".")}\n`,
    );
  });

  it("describes the service and its messages with the comments of the contract", async () => {
    const service = await call(server.address, "describe", SERVICE);
    assert.match(
      service.stdout,
      /\/\/ Scores a batch of texts or text pairs\. results\[i\] belongs to texts\[i\]\./,
    );
    assert.match(
      service.stdout,
      /rpc Score \( \.rlhf\.reward\.v1\.ScoreRequest \) returns \( \.rlhf\.reward\.v1\.ScoreResponse \)/,
    );
    const request = await call("-msg-template", server.address, "describe", "rlhf.reward.v1.ScoreRequest");
    assert.match(request.stdout, /\/\/ Second segments: empty, or as many as texts;/);
    assert.match(request.stdout, /"textPairs": \[\s+""\s+\]/, "a template to fill in");
  });

  it("scores texts in order, and says which weights did", async () => {
    const texts = ["thank you, that helps", "no"];
    const { code, stdout, stderr } = await score({ texts });
    assert.equal(code, 0, stderr);
    const reply = JSON.parse(stdout) as {
      results: { reward: number; scores: { label: string; score: number; logit: number }[] }[];
      label: string;
      weights: { digest: string };
    };
    assert.equal(reply.label, "LABEL_1");
    assert.match(reply.weights.digest, /^[0-9a-f]{64}$/);
    assert.equal(reply.results.length, 2);
    for (const { reward, scores } of reply.results) {
      assert.deepEqual(
        scores.map(({ label }) => label),
        ["LABEL_0", "LABEL_1"],
      );
      assert.ok(Math.abs((scores[0]?.score ?? 0) + reward - 1) < 1e-9, "softmax sums to 1");
    }
    const reversed = JSON.parse((await score({ texts: texts.toReversed() })).stdout) as typeof reply;
    assert.ok(Math.abs((reversed.results[1]?.reward ?? 0) - (reply.results[0]?.reward ?? 1)) < 1e-5);
  });

  it("shows a bad request with every field that is wrong, decoded", async () => {
    const { code, stderr } = await score({ texts: ["a", "b"], textPairs: ["c"], label: "GOOD" });
    assert.equal(code, INVALID_ARGUMENT, stderr);
    assert.match(stderr, /Code: InvalidArgument/);
    assert.match(
      stderr,
      /Message: text_pairs: has 1 items; accepted: none, or 2 as texts has \(and 1 more\)/,
    );
    const [badRequest, errorInfo, requestInfo] = detailsOf(stderr);
    assert.deepEqual(badRequest, {
      "@type": "type.googleapis.com/google.rpc.BadRequest",
      fieldViolations: [
        { field: "text_pairs", description: "has 1 items; accepted: none, or 2 as texts has" },
        { field: "label", description: 'is "GOOD"; accepted: "LABEL_0", "LABEL_1" or an index from 0 to 1' },
      ],
    });
    assert.deepEqual(errorInfo, {
      "@type": "type.googleapis.com/google.rpc.ErrorInfo",
      domain: "rlhf-mesh",
      reason: "INVALID_FIELD",
    });
    assert.match((requestInfo as { requestId: string }).requestId, /./);
  });

  it("shows a text that is too long by its index, with the numbers for machines", async () => {
    const { code, stderr } = await score({ texts: ["short", "word ".repeat(700)] });
    assert.equal(code, INVALID_ARGUMENT, stderr);
    const [badRequest, errorInfo] = detailsOf(stderr) as [{ fieldViolations: { field: string }[] }, object];
    assert.equal(badRequest.fieldViolations[0]?.field, "texts[1]");
    const { reason, metadata } = errorInfo as { reason: string; metadata: { max: string; actual: string } };
    assert.deepEqual([reason, metadata.max], ["INPUT_TOO_LONG", "512"]);
    assert.ok(Number(metadata.actual) > 512);
    assert.equal((await score({ texts: ["word ".repeat(700)], truncate: true })).code, 0);
  });

  it("shows a model that is not here as NOT_FOUND with its name", async () => {
    const { code, stderr } = await score({ texts: ["a"], model: "another" });
    assert.equal(code, NOT_FOUND, stderr);
    assert.ok(
      detailsOf(stderr).some((detail) => detail["@type"] === "type.googleapis.com/google.rpc.ResourceInfo"),
    );
  });

  it("checks health, of the service and of the whole server", async () => {
    for (const request of [{}, { service: SERVICE }]) {
      const { stdout } = await call(
        "-d",
        JSON.stringify(request),
        server.address,
        "grpc.health.v1.Health/Check",
      );
      assert.deepEqual(JSON.parse(stdout), { status: "SERVING" });
    }
    const unknown = await call("-d", '{"service": "no.such"}', server.address, "grpc.health.v1.Health/Check");
    assert.equal(unknown.code, NOT_FOUND);
  });
});

describe("grpcurl, with TLS and a token", function () {
  this.timeout(60_000);
  const sandbox = useSandbox("all");
  let grpcurl: string;
  let server: SecureServer;
  before(async function () {
    grpcurl = grpcurlOrSkip(this);
    server = await startSecure(sandbox());
  });

  const call = (...args: string[]): Promise<Ended> =>
    runProgram(grpcurl, ["-cacert", server.authority.caFile, ...args]);
  const bearer = (token: string) => ["-H", `authorization: Bearer ${token}`];
  const texts = ["-d", '{"texts": ["thank you"]}'];

  it("lists, scores and checks health", async () => {
    const { address } = server.service;
    assert.match((await call(...bearer(TOKEN), address, "list")).stdout, new RegExp(`^${SERVICE}$`, "m"));
    const scored = await call(...bearer(TOKEN), ...texts, address, SCORE);
    assert.equal(scored.code, 0, scored.stderr);
    assert.equal((JSON.parse(scored.stdout) as { results: unknown[] }).results.length, 1);
    const health = await call(address, "grpc.health.v1.Health/Check");
    assert.deepEqual(JSON.parse(health.stdout), { status: "SERVING" }, "probes need no token");
  });

  it("is told what is missing: a token, a known one", async () => {
    const { address } = server.service;
    const without = await call(...texts, address, SCORE);
    assert.equal(without.code, UNAUTHENTICATED, without.stderr);
    assert.match(without.stderr, /no credentials; send metadata authorization: Bearer TOKEN/);
    const wrong = await call(...bearer("not-a-known-token"), ...texts, address, SCORE);
    assert.equal(wrong.code, UNAUTHENTICATED);
    assert.ok(!wrong.stderr.includes("not-a-known-token"), "a token is never repeated");
    assert.equal(detailsOf(wrong.stderr)[0]?.reason, "UNAUTHENTICATED");
    assert.notEqual(wrong.code, PERMISSION_DENIED);
  });

  it("does not speak with a server that it cannot trust, nor in the clear", async () => {
    const { address } = server.service;
    const short = ["-connect-timeout", "3"];
    const untrusted = await runProgram(grpcurl, [...short, address, "list"]);
    assert.notEqual(untrusted.code, 0);
    assert.match(untrusted.stderr, /certificate/);
    assert.notEqual((await runProgram(grpcurl, [...short, "-plaintext", address, "list"])).code, 0);
  });
});

/** The details of an error as grpcurl prints them: `1)` and JSON, and so on. */
function detailsOf(stderr: string): Record<string, unknown>[] {
  const [, list = ""] = stderr.split(/^\s*Details:\s*$/m);
  return list
    .split(/^\s*\d+\)\s/m)
    .filter((text) => text.trim() !== "")
    .map((text) => JSON.parse(text) as Record<string, unknown>);
}
