/**
 * @file The life of a service process, the same for all: telemetry, listen, load, say that it serves, drain, exit. The
 * server listens before the model is loaded and says NOT_SERVING until then, so that probes are honest.
 */
import { startTelemetry, type TelemetryOptions } from "../telemetry/index.js";
import { drainOnSignals } from "./drain.js";
import type { ServiceImplementation } from "./implement.js";
import { lifecycleService } from "./lifecycle.js";
import type { ServerLimits } from "./limits.js";
import type { Logger } from "./log.js";
import { announceReady } from "./ready.js";
import { type RunningServer, startServer } from "./server.js";
import { buildVersion, instanceName } from "./server-info.js";
import type { ServiceConfig } from "./service-config.js";

/** What a service is made of. */
export interface ServiceParts {
  services: ServiceImplementation[];
  adminServices?: ServiceImplementation[];
  limits?: Partial<ServerLimits>;
  /** Loads what the service needs. Its rejection is why the process ends. */
  load: () => Promise<void>;
  /** Called once, after load: tells the listener whenever the service stops or starts being able to answer. */
  watch?: (serving: (able: boolean) => void) => void;
  /** Refuses what waits and stops workers. Called after the last call has ended. */
  close: () => Promise<void>;
}

/** What runService hands to a service. */
export interface ServiceKit {
  log: Logger;
  /** The server, once it listens; for GetInfo. Throws before. */
  server: () => RunningServer;
}

/** Exit statuses of a service that could not start. */
const EXIT_REFUSED_CONFIG = 2;
const EXIT_UNAVAILABLE = 3;
/** Longest wait for the answer to a ping, in milliseconds. */
const LONGEST_PING_MS = 20_000;
const CONFIG_CODES = new Set<unknown>(["CONFIG_INVALID", "TLS_INVALID", "TOKENS_INVALID"]);

/**
 * Runs a service until it is told to end. Resolves once it serves (or has failed to start, with process.exitCode set);
 * from then on signals end the process. `furtherTelemetry` is what the service wants of telemetry beyond the common flags.
 */
export async function runService<Config extends ServiceConfig>(
  service: string,
  configure: () => Config,
  create: (config: Config, kit: ServiceKit) => ServiceParts,
  furtherTelemetry?: (config: Config) => Pick<TelemetryOptions, "traceFileOf">,
): Promise<void> {
  let config: Config;
  try {
    config = configure();
  } catch (error) {
    return refuse(service, error);
  }
  const { traceFile, prometheusPort, prometheusHost, logLevel, instance } = config;
  const telemetry = startTelemetry({
    ...{ service, version: buildVersion(), traceFile, prometheusPort, prometheusHost, logLevel },
    instance: instance ?? instanceName(), // one name in GetInfo, in logs and in traces
    ...furtherTelemetry?.(config),
  });
  const log: Logger = telemetry.log;
  let server: RunningServer | undefined;
  let parts: ServiceParts | undefined;
  let ending = false;
  const stop = async () => {
    await parts?.close();
    await telemetry.shutdown();
  };
  try {
    parts = create(config, {
      log,
      server: () => {
        if (!server) throw new Error(`${service}: the server does not listen yet`);
        return server;
      },
    });
    let end = (_why: string) => {};
    const lifecycle = lifecycleService({ inFlight: () => server?.inFlight ?? 0, end: (why) => end(why) });
    const adminServices = [...(parts.adminServices ?? []), lifecycle];
    server = await listen(service, config, { ...parts, adminServices }, log, stop);
    const running = server;
    const drain = () => {
      ending = true;
      return running.drain();
    };
    ({ end } = drainOnSignals({ drain, log }));
    await parts.load();
    running.setServing("", true);
    parts.watch?.((able) => running.setServing("", able));
    announceReady(service, running);
    log.info({ address: running.address }, "serving");
  } catch (error) {
    if (ending) return; // told to end while it loaded: the drain exits
    log.error({ err: error }, "could not start");
    refuse(service, error);
    if (server) await server.drain();
    else await stop();
    process.exit();
  }
}

function listen(
  service: string,
  config: ServiceConfig,
  { services, adminServices, limits }: ServiceParts,
  log: Logger,
  onClosed: () => Promise<void>,
): Promise<RunningServer> {
  const { listen: address, adminListen, tlsCert, tlsKey, tlsClientCa, authTokens, keepalive } = config;
  const tls =
    tlsCert !== undefined && tlsKey !== undefined ? { certFile: tlsCert, keyFile: tlsKey } : undefined;
  return startServer({
    name: service,
    services,
    adminServices,
    listen: address,
    adminListen,
    tls: tls && { ...tls, ...(tlsClientCa !== undefined && { clientCaFile: tlsClientCa }) },
    authTokensFile: authTokens,
    insecure: config.insecure,
    reflection: config.reflection,
    serving: false,
    limits: { keepaliveMs: keepalive, keepaliveTimeoutMs: Math.min(keepalive, LONGEST_PING_MS), ...limits },
    log,
    drain: { withdrawMs: config.drainWithdraw, onClosed },
  });
}

/** Says on stderr why the service did not start, and sets the exit status. */
function refuse(service: string, error: unknown): void {
  const { message, code } =
    error instanceof Error
      ? (error as Error & { code?: unknown })
      : { message: String(error), code: undefined };
  process.stderr.write(`${service}: ${message}\n`);
  process.exitCode = CONFIG_CODES.has(code) ? EXIT_REFUSED_CONFIG : EXIT_UNAVAILABLE;
}
