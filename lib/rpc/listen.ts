/** @file Addresses to listen on, and the rule that plaintext stays on this machine unless someone says otherwise. */
import { ServerCredentials as Credentials, type Server, type ServerCredentials } from "@grpc/grpc-js";

/** A refusal to listen, or an address that cannot be bound. */
export class ListenError extends Error {
  readonly code = "LISTEN_REFUSED";
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ListenError";
  }
}

/** The host of `host:port`, `[v6]:port` or `unix:path`. Throws ListenError on anything else. */
export function hostOf(address: string): string {
  if (address.startsWith("unix:")) return "unix";
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^:/[\]]+)):(\d{1,5})$/.exec(address);
  if (!match || Number(match[3]) > 65_535) {
    throw new ListenError(
      `listen: ${JSON.stringify(address)} is no address; accepted: host:port, [ipv6]:port, unix:path`,
    );
  }
  return match[1] ?? match[2] ?? "";
}

/** Whether a host is this machine: 127.0.0.0/8, ::1, localhost or a Unix socket. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, "").toLowerCase();
  return (
    bare === "localhost" ||
    bare === "unix" ||
    bare === "::1" ||
    /^(::ffff:)?127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(bare)
  );
}

/** Throws ListenError if others could reach `address` and nothing protects it. */
export function assertMayListen(address: string, protection: { tls: boolean; insecure: boolean }): void {
  if (isLoopback(hostOf(address)) || protection.tls || protection.insecure) return;
  throw new ListenError(
    `listen: ${address} can be reached from other machines; give --tls-cert and --tls-key, listen on 127.0.0.1, ` +
      "or accept plaintext with --insecure",
  );
}

/** Binds a server. Returns the address with its real port. Throws ListenError if it is taken or unknown. */
export async function bind(server: Server, address: string, credentials: ServerCredentials): Promise<string> {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, credentials, (error, bound) => {
      if (error) reject(new ListenError(`listen: ${address} cannot be bound: ${error.message}`, error));
      else resolve(bound);
    });
  });
  return address.startsWith("unix:") ? address : address.replace(/:\d+$/, `:${port}`);
}

/** Credentials of a server without TLS. */
export function plaintextCredentials(): ServerCredentials {
  return Credentials.createInsecure();
}
