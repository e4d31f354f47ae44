/** @file Clients from command-line options: addresses, TLS, tokens. */
import { readFileSync } from "node:fs";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { type Client, type ClientOptions, createClient } from "../lib/rpc/index.js";

/** Options that every command with an address takes. */
export interface ConnectionOptions {
  readonly tokenFile?: string;
  readonly tls?: boolean;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  /** Deadline of a call in milliseconds. */
  readonly timeout?: number;
}

/** Client options of a command line. */
export function clientOptions(options: ConnectionOptions): ClientOptions {
  const { tokenFile, tlsCa, tlsCert, tlsKey } = options;
  const tls = options.tls || tlsCa || tlsCert;
  return {
    deadlineMs: options.timeout ?? 60_000,
    ...(tls
      ? { tls: { caFile: tlsCa, certFile: tlsCert, keyFile: tlsKey } as NonNullable<ClientOptions["tls"]> }
      : {}),
    ...(tokenFile ? { token: readFileSync(tokenFile, "utf8").trim() } : {}),
  };
}

/** Calls `work` with a client and closes it after. */
export async function withClient<S extends GenServiceMethods, T>(
  desc: GenService<S>,
  addresses: string | readonly string[],
  options: ConnectionOptions,
  work: (client: Client<S>) => Promise<T>,
): Promise<T> {
  const client = createClient(desc, addresses, clientOptions(options));
  try {
    return await work(client);
  } finally {
    client.close();
  }
}
