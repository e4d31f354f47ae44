/** @file Opens a weights bus by its address. */
import { silentLog } from "../telemetry/index.js";
import { type BusOptions, VersionedBus, type WeightsBus } from "./bus.js";
import { BusAddressError } from "./errors.js";
import { FileTransport } from "./file-transport.js";
import { type NatsOptions, NatsTransport } from "./nats-transport.js";

/** Options of openWeightsBus; those of NATS are ignored for files. */
export interface OpenOptions extends BusOptions, NatsOptions {}

/**
 * Opens `nats://[user:password@]host:port[,…]`, `tls://…` or `file:<folder>`. Throws BusAddressError for another address or an empty run or
 * model, BusUnavailableError when the bus cannot be reached.
 */
export async function openWeightsBus(url: string, options: OpenOptions): Promise<WeightsBus> {
  for (const field of ["run", "model"] as const) {
    if (!options[field]) throw new BusAddressError(field, options[field], "a name that is not empty");
  }
  const log = (options.log ?? silentLog()).child({ weights_run: options.run });
  if (url.startsWith("file:"))
    return new VersionedBus(await FileTransport.open(url, options, log), { ...options, log });
  if (/^(nats|tls):/.test(url))
    return new VersionedBus(await NatsTransport.open(url, options, log), { ...options, log });
  throw new BusAddressError("weights", url, "nats://host:port, tls://host:port or file:<folder>");
}
