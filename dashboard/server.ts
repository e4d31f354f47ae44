/**
 * @file Serves the dashboard over HTTP. In: a runs directory and where to listen. Out: a running server. Plain HTTP without
 * accounts, hence loopback unless someone says otherwise.
 */
import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import { isLoopback } from "../lib/rpc/listen.js";
import { createApp } from "./app.js";
import { DashboardListenError } from "./errors.js";

/** What startDashboard needs. */
export interface DashboardOptions {
  readonly runsDirectory: string;
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  /** Allow an address that other machines can reach. Default: false. */
  readonly insecure?: boolean;
  /** Hears of failures that are not the client's. Default: nobody. */
  readonly onError?: (error: Error) => void;
}

/** A dashboard that serves. */
export interface RunningDashboard {
  /** `http://127.0.0.1:8080` */
  readonly url: string;
  /** Ends live streams and closes. */
  close(): Promise<void>;
}

/** Starts a dashboard. Throws DashboardListenError where it may not or cannot listen. */
export async function startDashboard(options: DashboardOptions): Promise<RunningDashboard> {
  const { host, port } = parseListen(options.listen);
  const loopback = isLoopback(host);
  if (!loopback && !options.insecure) {
    throw new DashboardListenError(
      `listen: ${options.listen} can be reached from other machines, and the dashboard shows prompts, responses and run ` +
        "files to whoever opens it; listen on 127.0.0.1, or accept that with --insecure",
    );
  }
  const ending = new AbortController();
  const app = createApp({
    runsDirectory: options.runsDirectory,
    loopbackOnly: loopback,
    signal: ending.signal,
    onError: options.onError ?? (() => {}),
  });
  const server = serve({ fetch: app.fetch, hostname: host, port }) as Server;
  try {
    await once(server, "listening"); // rejects on "error"
  } catch (cause) {
    throw new DashboardListenError(`listen: ${options.listen} cannot be bound: ${(cause as Error).message}`, {
      cause,
    });
  }
  const { port: bound } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${bound}`,
    async close() {
      ending.abort();
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function parseListen(listen: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:/[\]]+)):(\d{1,5})$/.exec(listen);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) {
    throw new DashboardListenError(
      `listen: ${JSON.stringify(listen)} is no address; accepted: host:port, [ipv6]:port`,
    );
  }
  return { host: match[1] ?? match[2] ?? "", port };
}
