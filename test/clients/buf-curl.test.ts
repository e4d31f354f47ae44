/** @file `buf curl` against a real reward server: a second client that knows the address alone. */
import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { BadRequestSchema, ErrorInfoSchema } from "../../lib/api/gen/google/rpc/error_details_pb.js";
import type { Service } from "../support/processes.js";
import { useSandbox } from "../support/sandbox.js";
import { BUF, type Ended, runProgram } from "./peers.js";
import { type SecureServer, startPlain, startSecure, TOKEN } from "./reward-servers.js";

const SERVICE = "rlhf.reward.v1.RewardService";
/** buf curl's exit status of a failed call is the gRPC code, shifted by 3 bits. */
const exitOf = (code: number) => code << 3;

interface BufError {
  readonly code: string;
  readonly message: string;
  /** `value` is base64 of the detail's bytes. */
  readonly details: readonly { readonly type: string; readonly value: string }[];
}

describe("buf curl, with an address and nothing else", function () {
  this.timeout(60_000);
  const sandbox = useSandbox("all");
  let server: Service;
  before(async () => {
    server = await startPlain(sandbox());
  });

  const curl = (address: string, path: string, ...args: string[]): Promise<Ended> =>
    runProgram(BUF, [
      "curl",
      "--protocol",
      "grpc",
      "--http2-prior-knowledge",
      ...args,
      `http://${address}/${path}`,
    ]);

  it("lists services and methods", async () => {
    const { stdout } = await curl(server.address, "", "--list-methods");
    for (const method of [`${SERVICE}/Score`, `${SERVICE}/GetInfo`, "grpc.health.v1.Health/Watch"]) {
      assert.ok(stdout.split("\n").includes(method), stdout);
    }
  });

  it("scores, describes itself, probes health, and reads channelz on the admin listener", async () => {
    const score = await curl(server.address, `${SERVICE}/Score`, "-d", '{"texts": ["a", "b"]}');
    assert.equal((JSON.parse(score.stdout) as { results: unknown[] }).results.length, 2, score.stderr);
    const info = await curl(server.address, `${SERVICE}/GetInfo`, "-d", "{}");
    assert.deepEqual((JSON.parse(info.stdout) as { labels: string[] }).labels, ["LABEL_0", "LABEL_1"]);
    const health = await curl(server.address, "grpc.health.v1.Health/Check", "-d", "{}");
    assert.deepEqual(JSON.parse(health.stdout), { status: "SERVING" });
    const channelz = await curl(
      server.adminAddress as string,
      "grpc.channelz.v1.Channelz/GetServers",
      "-d",
      "{}",
    );
    assert.ok((JSON.parse(channelz.stdout) as { server: unknown[] }).server.length >= 2);
  });

  it("shows code, message and details of a bad request", async () => {
    const { code, stderr } = await curl(
      server.address,
      `${SERVICE}/Score`,
      "-d",
      '{"texts": ["a"], "function": 9}',
    );
    assert.equal(code, exitOf(3), stderr);
    const error = JSON.parse(stderr) as BufError;
    assert.equal(error.code, "invalid_argument");
    assert.match(
      error.message,
      /^function: has no value 9; accepted: SCORE_FUNCTION_UNSPECIFIED, SCORE_FUNCTION_SOFTMAX, /,
    );
    const types = error.details.map(({ type }) => type);
    assert.deepEqual(types, ["google.rpc.BadRequest", "google.rpc.ErrorInfo", "google.rpc.RequestInfo"]);
    const [badRequest, errorInfo] = error.details.map(({ value }) => Buffer.from(value, "base64"));
    const { fieldViolations } = fromBinary(BadRequestSchema, badRequest as Buffer);
    assert.deepEqual(
      fieldViolations.map(({ field }) => field),
      ["function"],
    );
    assert.equal(fromBinary(ErrorInfoSchema, errorInfo as Buffer).reason, "INVALID_FIELD");
  });
});

describe("buf curl, with mutual TLS and a token", function () {
  this.timeout(60_000);
  const sandbox = useSandbox("all");
  let server: SecureServer;
  before(async () => {
    server = await startSecure(sandbox(), { clients: true });
  });

  it("is let in with certificate and token, and refused without either", async () => {
    const { authority, service } = server;
    const { certFile, keyFile } = authority.issue("caller.test");
    const curl = (...args: string[]) =>
      runProgram(BUF, [
        ...["curl", "--protocol", "grpc", "--cacert", authority.caFile, ...args],
        ...["-d", '{"texts": ["a"]}', `https://${service.address}/${SERVICE}/Score`],
      ]);
    const certificate = ["--cert", certFile, "--key", keyFile];
    const token = ["-H", `authorization: Bearer ${TOKEN}`];
    const scored = await curl(...certificate, ...token);
    assert.equal(scored.code, 0, scored.stderr);
    assert.equal((JSON.parse(scored.stdout) as { results: unknown[] }).results.length, 1);
    const unknown = await curl(...certificate);
    assert.equal(unknown.code, exitOf(16), unknown.stderr);
    assert.equal((JSON.parse(unknown.stderr) as BufError).code, "unauthenticated");
    const stranger = await curl(...token);
    assert.notEqual(stranger.code, 0);
    assert.doesNotMatch(stranger.stdout, /results/);
  });
});
