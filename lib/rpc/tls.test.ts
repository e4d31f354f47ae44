/** @file Tests of TLS and mTLS with certificates made here, and of the refusal to serve or send in the clear. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertMayListen, hostOf, isLoopback, ListenError } from "./listen.js";
import { type CertificateFiles, createAuthority, type TestAuthority } from "./testing/certificates.js";
import { echoClient, startEcho } from "./testing/echo.js";
import { TlsError } from "./tls.js";

describe("TLS", () => {
  let ours: TestAuthority;
  let strangers: TestAuthority;
  let serverFiles: CertificateFiles;
  const open: (() => unknown)[] = [];

  before(() => {
    ours = createAuthority();
    strangers = createAuthority();
    serverFiles = ours.issue("reward.test");
  });
  after(() => {
    ours.remove();
    strangers.remove();
  });
  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
  });

  async function serve(tls: Parameters<typeof startEcho>[0] = {}) {
    const server = await startEcho(tls);
    open.push(() => server.drain());
    return server;
  }

  function connect(address: string, options: Parameters<typeof echoClient>[1] = {}) {
    const client = echoClient(address, { retry: false, deadlineMs: 3000, ...options });
    open.push(() => client.close());
    return client;
  }

  it("serves who trusts its authority, also by another name that the certificate has", async () => {
    const { address } = await serve({ tls: serverFiles });
    const { caFile } = ours;
    assert.equal((await connect(address, { tls: { caFile } }).echo({ text: "a" })).text, "a");
    const byName = connect(address, { tls: { caFile, serverName: "reward.test" } });
    assert.equal((await byName.echo({ text: "a" })).text, "a");
    const wrongName = connect(address, { tls: { caFile, serverName: "policy.test" } });
    await assert.rejects(wrongName.echo({}), { status: "UNAVAILABLE" });
  });

  it("is not spoken with a server that another authority signed, nor in the clear", async () => {
    const { address } = await serve({ tls: serverFiles });
    await assert.rejects(connect(address, { tls: { caFile: strangers.caFile } }).echo({}), {
      status: "UNAVAILABLE",
    });
    await assert.rejects(connect(address).echo({}), { status: "UNAVAILABLE" });
  });

  it("with a client authority lets in only clients with its certificates", async () => {
    const { address } = await serve({ tls: { ...serverFiles, clientCaFile: ours.caFile } });
    const { caFile } = ours;
    const known = connect(address, { tls: { caFile, ...ours.issue("trainer.test") } });
    assert.equal((await known.echo({ text: "a" })).text, "a");
    await assert.rejects(connect(address, { tls: { caFile } }).echo({}), { status: "UNAVAILABLE" });
    const strange = connect(address, { tls: { caFile, ...strangers.issue("trainer.test") } });
    await assert.rejects(strange.echo({}), { status: "UNAVAILABLE" });
  });

  it("is told at the start when its files are missing, no PEM, or no pair", async () => {
    const garbage = join(ours.folder, "garbage.pem");
    writeFileSync(garbage, "not a certificate");
    const other = ours.issue("other.test");
    for (const [tls, what] of [
      [{ ...serverFiles, certFile: "/no/such.pem" }, /tls\.certFile: \/no\/such\.pem cannot be read/],
      [{ ...serverFiles, keyFile: garbage }, /tls\.keyFile: .*garbage\.pem is not a PEM file/],
      [{ ...serverFiles, keyFile: other.keyFile }, /do not make a certificate with its key/],
    ] as const) {
      await assert.rejects(
        startEcho({ tls }),
        (error) => error instanceof TlsError && what.test(error.message),
      );
    }
    assert.throws(
      () => echoClient("127.0.0.1:1", { tls: { certFile: serverFiles.certFile } }),
      /one needs the other/,
    );
  });

  it("or --insecure is needed to listen where others can reach", async () => {
    for (const listen of ["0.0.0.0:0", "[::]:0", "10.1.2.3:7000", "reward.example:7000"]) {
      await assert.rejects(startEcho({ listen }), ListenError);
      await assert.rejects(startEcho({ adminListen: listen }), ListenError);
      assertMayListen(listen, { tls: true, insecure: false });
    }
    const { address } = await serve({ listen: "0.0.0.0:0", insecure: true });
    assert.match(address, /^0\.0\.0\.0:\d+$/);
    await serve({ listen: "0.0.0.0:0", tls: serverFiles });
  });

  it("is needed to send a token to another machine", () => {
    const token = "s3cr3t-token";
    for (const address of [
      "10.1.2.3:7000",
      "reward.example:7000",
      "[2001:db8::1]:7000",
      "127.0.0.1.example:7000",
    ]) {
      assert.throws(() => echoClient(address, { token }), /a token is not sent there in the clear/);
      connect(address, { token, tls: { caFile: ours.caFile } });
    }
    for (const address of ["127.0.0.1:7000", "localhost:7000", "[::1]:7000", "unix:/tmp/x"])
      connect(address, { token });
  });
});

describe("addresses to listen on", () => {
  it("are host:port, [ipv6]:port or unix:path", () => {
    assert.deepEqual(["127.0.0.1:0", "[::1]:65535", "unix:/run/x", "a-b.c:1"].map(hostOf), [
      "127.0.0.1",
      "::1",
      "unix",
      "a-b.c",
    ]);
    for (const wrong of ["7000", ":7000", "::1:7000", "host:70000", "http://host:1", "host", ""]) {
      assert.throws(() => hostOf(wrong), ListenError, wrong);
    }
  });

  it("are loopback only where they really are", () => {
    for (const host of [
      "127.0.0.1",
      "127.9.9.9",
      "::1",
      "[::1]",
      "localhost",
      "LOCALHOST",
      "unix",
      "::ffff:127.0.0.1",
    ]) {
      assert.ok(isLoopback(host), host);
    }
    for (const host of [
      "0.0.0.0",
      "::",
      "128.0.0.1",
      "127.0.0.1.evil.com",
      "localhost.evil.com",
      "10.0.0.1",
      "",
    ]) {
      assert.ok(!isLoopback(host), host);
    }
  });

  it("that are taken are named", async () => {
    const first = await startEcho();
    await assert.rejects(startEcho({ listen: first.address }), (error) => {
      return error instanceof ListenError && error.message.includes(first.address);
    });
    await first.drain();
  });
});
