/**
 * @file Addresses of servers, as users write them, and what may be sent there.
 */
import { isIP } from "node:net";
import { isLoopback } from "./listen.js";

/** One address as given. */
export interface Endpoint {
  /** As given: `reward.example:7000`. */
  readonly address: string;
  /** Host without brackets. */
  readonly host: string;
  /** Port; 0 for a Unix socket. */
  readonly port: number;
  /** True for a name that may stand for several servers and is looked up by us. */
  readonly isName: boolean;
}

/** An address that is none, or that a secret must not be sent to. */
export class AddressError extends Error {
  readonly code = "INVALID_ADDRESS";
  constructor(message: string) {
    super(message);
    this.name = "AddressError";
  }
}

/** Parses `host:port`, `[v6]:port`, `dns:///host:port` or `unix:path`. Throws AddressError. */
export function parseEndpoint(address: string): Endpoint {
  if (address.startsWith("unix:")) return { address, host: "unix", port: 0, isName: false };
  const match = /^(?:dns:(?:\/\/\/)?)?(?:\[([0-9a-fA-F:.%\w]+)\]|([\w.-]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (!match || port === 0 || port > 65_535) {
    throw new AddressError(
      `address: ${JSON.stringify(address)}; accepted: host:port, [ipv6]:port, dns:///host:port, unix:path`,
    );
  }
  const host = match[1] ?? match[2] ?? "";
  return { address, host, port, isName: isIP(host) === 0 && host !== "localhost" };
}

/** Throws AddressError where a token would travel in the clear to another machine. */
export function assertTokenIsSafe(endpoint: Endpoint, tls: boolean): void {
  if (tls || isLoopback(endpoint.host)) return;
  throw new AddressError(
    `address: ${endpoint.address} is not on this machine and has no TLS; a token is not sent there in the clear`,
  );
}

/** A grpc-js target for a host that was looked up. */
export function targetOf(ip: string, port: number): string {
  return isIP(ip) === 6 ? `ipv6:[${ip}]:${port}` : `ipv4:${ip}:${port}`;
}
