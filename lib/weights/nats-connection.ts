/**
 * @file A connection to NATS that is never given up: it reconnects for ever, says so in the log, and tells errors of the
 * connection from errors of the caller. In: an address `nats://[user:password@]host:port[,host:port…]`.
 */
import { readFileSync } from "node:fs";
import { JetStreamApiError, type JetStreamClient, jetstream } from "@nats-io/jetstream";
import {
  connect,
  credsAuthenticator,
  type NatsConnection,
  type NodeConnectionOptions,
  NoRespondersError,
} from "@nats-io/transport-node";
import { counter, type Log } from "../telemetry/index.js";
import { BusAddressError, BusUnavailableError } from "./errors.js";
import { pause } from "./waiting.js";

/** How to get into a NATS server that asks. */
export interface NatsAccess {
  /** Overrides the one in the address. */
  user?: string;
  password?: string;
  token?: string;
  /** Path of a `.creds` file (JWT and seed). */
  credsFile?: string;
  /** Paths of PEM files; with any of them, or a `tls://` address, the connection is encrypted. */
  tls?: { caFile?: string; certFile?: string; keyFile?: string };
}

const reconnects = counter("rlhf.weights.reconnects");

/** What an address says. */
export interface NatsAddress {
  servers: string[];
  user?: string;
  password?: string;
  tls: boolean;
  /** The address without the password. */
  shown: string;
}

/** Reads `nats://…` or `tls://…`. Throws BusAddressError. */
export function parseNatsAddress(url: string): NatsAddress {
  const accepted = "nats://[user:password@]host[:port][,host[:port]…], or the same with tls://";
  const match = /^(nats|tls):\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^@/]+)\/?$/.exec(url);
  if (!match) throw new BusAddressError("weights", url.replace(/:[^:@/]*@/, ":***@"), accepted);
  const [, scheme, user, password, hosts] = match;
  const servers = hosts.split(",").map((host) => host.trim().replace(/^(nats|tls):\/\//, ""));
  if (servers.some((host) => !/^(\[[0-9a-fA-F:]+\]|[\w.-]+)(:\d{1,5})?$/.test(host))) {
    throw new BusAddressError("weights", hosts, accepted);
  }
  return {
    servers,
    tls: scheme === "tls",
    shown: `${scheme}://${servers.join(",")}`,
    ...(user !== undefined && { user: decodeURIComponent(user) }),
    ...(password !== undefined && { password: decodeURIComponent(password) }),
  };
}

/**
 * Connects, trying for `timeoutMs`; afterwards the connection mends itself for ever. Throws BusUnavailableError.
 * `onReconnect` is called when a lost connection is back.
 */
export async function connectNats(
  address: NatsAddress,
  access: NatsAccess,
  {
    name,
    timeoutMs,
    log,
    onReconnect,
  }: { name: string; timeoutMs: number; log: Log; onReconnect: () => void },
): Promise<NatsConnection> {
  const options: NodeConnectionOptions = {
    servers: address.servers,
    name,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 250,
    reconnectJitter: 250,
    timeout: Math.min(timeoutMs, 5000),
    pingInterval: 10_000,
    maxPingOut: 2,
    ...credentials(address, access),
  };
  const until = performance.now() + timeoutMs;
  for (;;) {
    try {
      const connection = await connect(options);
      void followStatus(connection, address.shown, log, onReconnect);
      return connection;
    } catch (cause) {
      const refused =
        cause instanceof Error && /auth|permission|tls|certificate/i.test(`${cause.name} ${cause.message}`);
      if (refused || performance.now() + 250 > until) {
        throw new BusUnavailableError(address.shown, "connect", cause);
      }
      await pause(250);
    }
  }
}

function credentials(address: NatsAddress, access: NatsAccess): NodeConnectionOptions {
  const { tls, token, credsFile } = access;
  const user = access.user ?? address.user;
  const password = access.password ?? address.password;
  return {
    ...(user !== undefined && password !== undefined && { user, pass: password }),
    // `nats://token@host` is a token, as for NATS's own tools
    ...(user !== undefined && password === undefined && { token: user }),
    ...(token !== undefined && { token }),
    ...(credsFile !== undefined && { authenticator: credsAuthenticator(readFileSync(credsFile)) }),
    ...((address.tls || tls) && {
      tls: {
        ...(tls?.caFile !== undefined && { caFile: tls.caFile }),
        ...(tls?.certFile !== undefined && { certFile: tls.certFile }),
        ...(tls?.keyFile !== undefined && { keyFile: tls.keyFile }),
      },
    }),
  };
}

async function followStatus(
  connection: NatsConnection,
  where: string,
  log: Log,
  onReconnect: () => void,
): Promise<void> {
  for await (const status of connection.status()) {
    if (status.type === "disconnect") log.warn({ where }, "weights bus: connection lost, trying again");
    else if (status.type === "reconnect") {
      reconnects.add(1, { "rlhf.weights.bus": "nats" });
      log.info({ where }, "weights bus: connected again");
      onReconnect();
    } else if (status.type === "error")
      log.warn({ where, err: status.error }, "weights bus: error from the server");
    else if (status.type === "slowConsumer") log.warn({ where }, "weights bus: we read too slowly");
  }
}

/** The JetStream client of a connection. */
export function jetStreamOf(connection: NatsConnection, timeoutMs: number): JetStreamClient {
  return jetstream(connection, { timeout: timeoutMs });
}

/** True when compare-and-set lost. */
export function isWrongRevision(error: unknown): boolean {
  return error instanceof JetStreamApiError && (error.code === 10071 || error.code === 10164);
}

/** True when a bucket may not be there, e.g. because the server lost its store: nobody answers for its subjects. */
export function isBucketMissing(error: unknown): boolean {
  if (error instanceof JetStreamApiError) return error.code === 10059;
  if (error instanceof NoRespondersError) return true;
  return error instanceof Error && error.cause !== undefined && isBucketMissing(error.cause);
}
