/**
 * @file A gRPC server with everything that is not the service itself: health, reflection, TLS, tokens, limits, deadlines,
 * traces and an orderly end. The public listener serves the service; the admin listener serves what changes or
 * reveals the server (weights, lifecycle, channelz).
 */
import { addAdminServicesToServer, Server } from "@grpc/grpc-js";
import { type DescriptorIndex, descriptorIndex, methodPath } from "../api/index.js";
import { TokenStore } from "./auth.js";
import { clampTimeouts } from "./deadlines.js";
import { type DrainOptions, drainInOrder } from "./drain.js";
import { type Access, guardCalls } from "./guard.js";
import { HealthRegistry } from "./health.js";
import type { ServiceImplementation } from "./implement.js";
import { InFlight } from "./in-flight.js";
import { grpcServerOptions, resolveLimits, type ServerLimits } from "./limits.js";
import { assertMayListen, bind, hostOf, isLoopback, plaintextCredentials } from "./listen.js";
import type { Logger } from "./log.js";
import { observeCalls } from "./observe.js";
import { reflectionServices } from "./reflection.js";
import { rawDefinition, runCall } from "./run-call.js";
import { type ServerTls, serverCredentials } from "./tls.js";

/** What startServer needs. */
export interface ServerOptions {
  /** Name of the process in the log: `reward`. */
  name: string;
  /** Services of the public listener. Tokens of any role may call them. */
  services: ServiceImplementation[];
  /** Services of the admin listener, beside channelz. Only tokens of the role `admin` may call them. */
  adminServices?: ServiceImplementation[];
  /** `host:port`, `[v6]:port` or `unix:path`; port 0 takes a free one. */
  listen: string;
  /** Address of the admin listener. Default: none, and no admin services. */
  adminListen?: string;
  /** Serve with TLS, and with mTLS where it names a client authority. Default: plaintext. */
  tls?: ServerTls | undefined;
  /** File with bearer tokens. Default: none are asked for. */
  authTokensFile?: string | undefined;
  /** True accepts plaintext on addresses that others can reach. Default: false. */
  insecure?: boolean;
  /** Who may use reflection: anyone, holders of a token, or nobody. Default: "open". */
  reflection?: "open" | "token" | "off";
  /** False starts with every health key NOT_SERVING, until setServing. Default: true. */
  serving?: boolean;
  limits?: Partial<ServerLimits>;
  log: Logger;
  /** Descriptors that reflection answers from. Default: all of this package. */
  descriptors?: DescriptorIndex;
  /** How a drain is paced, and what it does last. */
  drain?: Partial<DrainOptions>;
}

/** A server that listens. */
export interface RunningServer {
  /** Address of the public listener with its real port. */
  readonly address: string;
  /** Address of the admin listener, where there is one. */
  readonly adminAddress: string | undefined;
  /** The limits in force, for GetInfo. */
  readonly limits: ServerLimits;
  /** Calls that a drain would wait for. */
  readonly inFlight: number;
  /** Sets a health key; "" sets all. Has no effect once a drain began. */
  setServing(service: string, serving: boolean): void;
  /** State of a health key. */
  isServing(service?: string): boolean;
  /** Shuts down in order (drain.ts). Every call returns the same promise. */
  drain(): Promise<void>;
}

/** Starts a server. Throws ListenError, TlsError or TokenFileError before anything listens. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { services, adminServices = [], listen, adminListen, log, insecure = false } = options;
  const limits = resolveLimits(options.limits, ageless([listen, adminListen]));
  for (const address of [listen, ...(adminListen === undefined ? [] : [adminListen])]) {
    assertMayListen(address, { tls: options.tls !== undefined, insecure });
  }
  const credentials = () => (options.tls ? serverCredentials(options.tls) : plaintextCredentials());
  credentials(); // a bad certificate is told before tokens are read or ports are bound
  const tokens =
    options.authTokensFile === undefined ? undefined : new TokenStore(options.authTokensFile, log);
  const names = services.map(({ desc }) => desc.typeName);
  const health = new HealthRegistry(names, options.serving ?? true);
  const inFlight = new InFlight();
  let draining = false;

  const open = async (own: ServiceImplementation[], role: "infer" | "admin", address: string) => {
    const all = [...own, health.implementation()];
    if (options.reflection !== "off") {
      const index = options.descriptors ?? descriptorIndex();
      const listed = all.map(({ desc }) => desc.typeName);
      if (role === "admin") listed.push("grpc.channelz.v1.Channelz");
      all.push(...reflectionServices(index, listed, { open: options.reflection !== "token" }));
    }
    const paths = (chosen: (service: ServiceImplementation, name: string) => boolean) =>
      all.flatMap((service) =>
        service.desc.methods.filter((m) => chosen(service, m.localName)).map(methodPath),
      );
    const access = new Map<string, Access>(paths(() => true).map((path) => [path, role]));
    for (const path of paths((service) => service.options.open ?? false)) access.set(path, "open");
    const lasting = new Set(paths((service, name) => service.options.lasting?.includes(name) ?? false));
    const quiet = new Set(paths((service) => service.options.quiet ?? false));
    const server = new Server({
      ...grpcServerOptions(limits),
      interceptors: [
        observeCalls({ log, inFlight, lasting, quiet }),
        guardCalls({ access, tokens, limits, isDraining: () => draining }),
      ],
    });
    for (const service of all) addService(server, service, limits, lasting);
    if (role === "admin") addAdminServicesToServer(server);
    const bound = await bind(server, address, credentials());
    clampTimeouts(server);
    return { server, address: bound };
  };

  const listeners: { server: Server; address: string }[] = [];
  try {
    listeners.push(await open(services, "infer", listen));
    if (adminListen !== undefined) listeners.push(await open(adminServices, "admin", adminListen));
  } catch (error) {
    tokens?.close();
    for (const { server } of listeners) server.forceShutdown();
    throw error;
  }
  const [publicListener, adminListener] = listeners;
  log.info(
    { service: options.name, address: publicListener?.address, admin: adminListener?.address },
    "listening",
  );

  let drained: Promise<void> | undefined;
  return {
    address: publicListener?.address ?? listen,
    adminAddress: adminListener?.address,
    limits,
    get inFlight() {
      return inFlight.count;
    },
    setServing: (service, serving) => health.set(service, serving),
    isServing: (service = "") => health.get(service) ?? false,
    drain() {
      drained ??= drainInOrder({
        servers: listeners.map(({ server }) => server),
        health,
        inFlight,
        refuseNew: () => {
          draining = true;
        },
        log,
        ...options.drain,
      }).finally(() => tokens?.close());
      return drained;
    },
  };
}

/**
 * No limit on the age of connections where all of them come from this machine: it serves to spread clients over
 * replicas, and would only cut long streams here.
 */
function ageless(addresses: readonly (string | undefined)[]): Partial<ServerLimits> {
  const local = addresses.every((address) => address === undefined || isLoopback(hostOf(address)));
  return local ? { maxConnectionAgeMs: 0x7fffffff } : {};
}

function addService(
  server: Server,
  service: ServiceImplementation,
  limits: ServerLimits,
  lasting: ReadonlySet<string>,
): void {
  const definition: Record<string, ReturnType<typeof rawDefinition>> = {};
  const implementation: Record<string, ReturnType<typeof runCall>> = {};
  for (const [method, handler] of service.handlers) {
    const { localName } = method;
    const usual = limits.methodDeadlinesMs[localName] ?? limits.defaultDeadlineMs;
    const defaultDeadlineMs = lasting.has(methodPath(method)) ? undefined : usual;
    definition[localName] = rawDefinition(method);
    implementation[localName] = runCall(method, handler, { defaultDeadlineMs });
  }
  server.addService(definition, implementation);
}
