/**
 * @file grpc.health.v1: Check, Watch and List. One key per service and "" for the whole process. Watch streams hear
 * NOT_SERVING when a drain begins and end when it ends.
 */
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../api/gen/grpc/health/v1/health_pb.js";
import { KitError } from "./errors.js";
import { implement, type ServiceImplementation } from "./implement.js";

/** Who is healthy, and who wants to know. */
export class HealthRegistry {
  private readonly serving = new Map<string, boolean>();
  private readonly watchers = new Set<() => void>();
  private frozen = false;

  /** Knows these services, and "", all with the same state. */
  constructor(services: readonly string[], serving: boolean) {
    for (const key of ["", ...services]) this.serving.set(key, serving);
  }

  /** State of a key; undefined if it is not known. */
  get(service: string): boolean | undefined {
    return this.serving.get(service);
  }

  /** Sets the state of one service; "" sets every key. Does nothing once the server drains. */
  set(service: string, serving: boolean): void {
    if (this.frozen) return;
    for (const key of service === "" ? [...this.serving.keys()] : [service]) this.serving.set(key, serving);
    for (const wake of this.watchers) wake();
  }

  /** Makes every key NOT_SERVING for good. */
  withdraw(): void {
    this.set("", false);
    this.frozen = true;
  }

  /** The service, to register on any number of listeners. */
  implementation(): ServiceImplementation {
    const status = (key: string) => {
      const serving = this.serving.get(key);
      if (serving === undefined) return undefined;
      return serving ? Serving.SERVING : Serving.NOT_SERVING;
    };
    const { watchers, serving } = this;
    return implement(
      Health,
      {
        check({ service }) {
          const current = status(service);
          if (current === undefined) throw new UnknownServiceError(service);
          return { status: current };
        },
        async *watch({ service }, { signal }) {
          let last: Serving | undefined;
          while (!signal.aborted) {
            const current = status(service) ?? Serving.SERVICE_UNKNOWN;
            // one status at a time: a slow watcher misses what was undone meanwhile, never the newest
            if (current !== last) yield { status: current };
            last = current;
            if ((status(service) ?? Serving.SERVICE_UNKNOWN) === current) await woken(watchers, signal);
          }
        },
        list() {
          const statuses = [...serving.keys()].map((key) => [key, { status: status(key) }] as const);
          return { statuses: Object.fromEntries(statuses) };
        },
      },
      { open: true, quiet: true, lasting: ["watch"] },
    );
  }
}

/** Resolves at the next change, or when the call ends. */
function woken(watchers: Set<() => void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      watchers.delete(wake);
      signal.removeEventListener("abort", wake);
      resolve();
    };
    watchers.add(wake);
    signal.addEventListener("abort", wake, { once: true });
    if (signal.aborted) wake();
  });
}

/** Health of a service that is not here. NOT_FOUND. */
class UnknownServiceError extends KitError {
  readonly resource: string;
  constructor(service: string) {
    super("UNKNOWN_SERVICE", `service ${JSON.stringify(service)} is not served here`);
    this.resource = service;
  }
}
