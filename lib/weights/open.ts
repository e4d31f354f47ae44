/** @file Opens a weights bus by its address. */
import { type Log, silentLog } from "../telemetry/index.js";
import { type BusOptions, VersionedBus, type WeightsBus } from "./bus.js";
import { BusAddressError } from "./errors.js";
import { FetchThread } from "./fetch-thread.js";
import { FileTransport } from "./file-transport.js";
import { type NatsOptions, NatsTransport } from "./nats-transport.js";
import type { Transport } from "./transport.js";

/** Options of openWeightsBus; those of NATS are ignored for files. */
export interface OpenOptions extends BusOptions, NatsOptions {
  /** Reads objects on a thread of its own: for a process whose event loop serves a model meanwhile. Default false. */
  fetchThread?: boolean;
}

/**
 * Opens `nats://[user:password@]host:port[,…]`, `tls://…` or `file:<folder>`. Throws BusAddressError for another address or an empty run or
 * model, BusUnavailableError when the bus cannot be reached.
 */
export async function openWeightsBus(url: string, options: OpenOptions): Promise<WeightsBus> {
  const log = (options.log ?? silentLog()).child({ weights_run: options.run });
  const transport = await openTransport(url, options, log);
  const fetcher = options.fetchThread ? new FetchThread(url, transport.address, options) : undefined;
  return new VersionedBus(transport, { ...options, log }, fetcher);
}

/** The transport behind an address. Throws as openWeightsBus. */
export async function openTransport(url: string, options: OpenOptions, log: Log): Promise<Transport> {
  for (const field of ["run", "model"] as const) {
    if (!options[field]) throw new BusAddressError(field, options[field], "a name that is not empty");
  }
  if (url.startsWith("file:")) return FileTransport.open(url, options, log);
  if (/^(nats|tls):/.test(url)) return NatsTransport.open(url, options, log);
  throw new BusAddressError("weights", url, "nats://host:port, tls://host:port or file:<folder>");
}
