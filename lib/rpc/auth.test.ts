/** @file Tests of bearer tokens: roles, refusals, the file and its changes, what stays open, and the admin listener. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Metadata } from "@grpc/grpc-js";
import { Health } from "../api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../api/gen/grpc/reflection/v1/reflection_pb.js";
import { TokenFileError, TokenStore } from "./auth.js";
import { createClient } from "./client.js";
import { silentLog } from "./log.js";
import { RpcError } from "./rpc-error.js";
import type { RunningServer } from "./server.js";
import { echoClient, startEcho } from "./testing/echo.js";
import { EchoAdminService, EchoService } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { until } from "./testing/until.js";

const inferToken = "infer-token-1";
const adminToken = "admin-token-1";
const hex = createHash("sha256").update(adminToken).digest("hex");
const tokens = `# who may do what\n\ninfer ${inferToken}   # the run\nadmin sha256:${hex}\n`;

describe("bearer tokens", () => {
  const folder = mkdtempSync(join(tmpdir(), "rlhf-tokens-"));
  const file = join(folder, "tokens");
  const open: (() => unknown)[] = [];
  after(() => rmSync(folder, { recursive: true }));
  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
  });

  async function serve(options: Parameters<typeof startEcho>[0] = {}): Promise<RunningServer> {
    writeFileSync(file, tokens);
    const server = await startEcho({ authTokensFile: file, adminListen: "127.0.0.1:0", ...options });
    open.push(() => server.drain());
    return server;
  }

  function connect<T extends { close(): void }>(client: T): T {
    open.push(() => client.close());
    return client;
  }

  const call = (address: string, token?: string) =>
    connect(echoClient(address, { token, retry: false })).echo({});
  const admin = (address: string, token?: string) =>
    connect(createClient(EchoAdminService, address, { token, retry: false, deadlineMs: 3000 })).poke({});

  it("of either role open the public service", async () => {
    const { address } = await serve();
    await call(address, inferToken);
    await call(address, adminToken);
  });

  it("that are missing, unknown or malformed are UNAUTHENTICATED, and are never repeated", async () => {
    const { address } = await serve();
    for (const token of [undefined, "unknown-token", `${inferToken} x`, "ünknown", inferToken.slice(0, -1)]) {
      const error = await call(address, token === "ünknown" ? "unknown%C3%BC" : token).catch(
        (e: unknown) => e,
      );
      assert.ok(error instanceof RpcError);
      assert.deepEqual([error.status, error.code], ["UNAUTHENTICATED", "UNAUTHENTICATED"]);
      if (token) assert.ok(!error.message.includes(token));
    }
    const basic = connect(echoClient(address, { retry: false }));
    await assert.rejects(basic.echo({}, { metadata: { authorization: "Basic abc" } }), {
      status: "UNAUTHENTICATED",
    });
  });

  it("of the role infer may not use the admin listener, those of admin may", async () => {
    const { adminAddress = "" } = await serve();
    await assert.rejects(admin(adminAddress, inferToken), { status: "PERMISSION_DENIED", code: "FORBIDDEN" });
    await assert.rejects(admin(adminAddress), { status: "UNAUTHENTICATED" });
    await admin(adminAddress, adminToken);
  });

  it("do not bring admin services to the public listener, nor public ones to the admin listener", async () => {
    const { address, adminAddress = "" } = await serve();
    await assert.rejects(admin(address, adminToken), { status: "UNIMPLEMENTED" });
    await assert.rejects(call(adminAddress, adminToken), { status: "UNIMPLEMENTED" });
  });

  it("are not asked of health, and of reflection only where configured", async () => {
    const ask = [{ messageRequest: { case: "listServices" as const, value: "" } }];
    const list = async (address: string, token?: string) => {
      const client = connect(
        createClient(ServerReflection, address, { token, deadlineMs: 3000, retry: false }),
      );
      for await (const { messageResponse } of client.serverReflectionInfo(ask)) return messageResponse.case;
      return undefined;
    };
    const { address } = await serve();
    const health = connect(createClient(Health, address, { deadlineMs: 3000 }));
    assert.equal((await health.check({ service: EchoService.typeName })).status, 1);
    assert.equal(await list(address), "listServicesResponse");
    const strict = await serve({ reflection: "token" });
    await assert.rejects(list(strict.address), { status: "UNAUTHENTICATED" });
    assert.equal(await list(strict.address, inferToken), "listServicesResponse");
    const none = await serve({ reflection: "off" });
    await assert.rejects(list(none.address, inferToken), { status: "UNIMPLEMENTED" });
  });

  it("are read again when the file changes; a broken file leaves the earlier ones valid", async () => {
    const errors: unknown[] = [];
    const log = { ...silentLog, error: (facts: object) => errors.push(facts) };
    writeFileSync(file, tokens);
    const store = new TokenStore(file, log, 5);
    open.push(() => store.close());
    const roleOf = (token: string) => {
      const metadata = new Metadata();
      metadata.set("authorization", `Bearer ${token}`);
      try {
        return store.roleOf(metadata);
      } catch {
        return "none";
      }
    };
    assert.deepEqual(
      [roleOf(inferToken), roleOf(adminToken), roleOf("later-token")],
      ["infer", "admin", "none"],
    );
    writeFileSync(file, "infer later-token\n");
    await until(() => roleOf("later-token") === "infer");
    assert.equal(roleOf(inferToken), "none");
    writeFileSync(file, "superuser later-token\n");
    await until(() => errors.length > 0);
    unlinkSync(file);
    await until(() => errors.length > 1);
    assert.equal(roleOf("later-token"), "infer");
    // as a mounted secret changes: a link is pointed elsewhere
    writeFileSync(join(folder, "next"), "admin next-token\n");
    symlinkSync(join(folder, "next"), join(folder, "link"));
    renameSync(join(folder, "link"), file);
    await until(() => roleOf("next-token") === "admin");
    assert.equal(errors.length, 2, "each complaint is logged once, not at every look");
  });

  it("are refused at the start where the file is wrong, naming the line and never the token", () => {
    for (const [text, what] of [
      ["", /holds no token/],
      ["# nothing\n", /holds no token/],
      ["infer\n", /tokens:1: accepted: role token/],
      ["infer a-long-token\nroot a-long-token\n", /tokens:2: accepted roles: infer, admin/],
      ["infer short\n", /at least 8 characters/],
      ["admin sha256:xyz\n", /64 hex digits/],
      ["infer a-long-token b\n", /accepted: role token/],
    ] as const) {
      writeFileSync(file, text);
      assert.throws(
        () => new TokenStore(file, silentLog).close(),
        (error) =>
          error instanceof TokenFileError && what.test(error.message) && !error.message.includes("long"),
      );
    }
    assert.throws(() => new TokenStore(join(folder, "none"), silentLog).close(), /cannot be read/);
  });

  it("are sent as the client's function gives them at each call", async () => {
    const { address } = await serve();
    let current = "expired-token";
    const client = connect(echoClient(address, { token: () => current, retry: false }));
    await assert.rejects(client.echo({}), { status: "UNAUTHENTICATED" });
    current = inferToken;
    await client.echo({});
  });
});
