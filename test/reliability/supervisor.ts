/**
 * @file Services under a supervisor, as systemd or Kubernetes would be: one that is killed is started again at the same address. Workers are
 * their service's own to start again.
 */
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import { eventually } from "../support/eventually.js";
import type { Service } from "../support/processes.js";
import type { Sandbox } from "../support/sandbox.js";
import { workerOf } from "./process-facts.js";

/** Longest time in which a service, or its worker, must be back. */
const BACK_MS = 60_000;

type ServiceName = Parameters<Sandbox["serve"]>[0];

/** One service that lives on, whatever happens to its processes. */
export class Supervised {
  #service: Service;

  private constructor(
    private readonly sandbox: Sandbox,
    /** "policy-1". */
    readonly name: string,
    private readonly args: readonly string[],
    service: Service,
  ) {
    this.#service = service;
  }

  static async start(
    sandbox: Sandbox,
    name: string,
    service: ServiceName,
    args: readonly string[],
  ): Promise<Supervised> {
    return new Supervised(sandbox, name, args, await sandbox.serve(service, args));
  }

  get address(): string {
    return this.#service.address;
  }

  /** Kills the service's own process, and starts it again. Resolves with the milliseconds until it served. */
  async killService(): Promise<number> {
    const { service, address } = this.#service;
    const killed = performance.now();
    await this.#service.kill();
    const args = [...this.args, "--listen", address];
    this.#service = await this.sandbox.serve(service as ServiceName, args, { timeoutMs: BACK_MS });
    return performance.now() - killed;
  }

  /** Kills the model's worker. Resolves with the milliseconds until another one served. */
  async killWorker(): Promise<number> {
    const { pid } = this.#service;
    const worker = workerOf(pid);
    const health = this.sandbox.client(Health, this.address, { retry: false, healthCheck: false });
    const killed = performance.now();
    process.kill(worker, "SIGKILL");
    await eventually(
      async () => {
        if (replacementOf(worker, pid) === undefined) return false;
        const { status } = await health.check({ service: "" });
        return status === Serving.SERVING;
      },
      () => `${this.name} serves with another worker`,
      BACK_MS,
    );
    health.close();
    return performance.now() - killed;
  }
}

/** The worker that came after `worker`; undefined as long as there is none. */
function replacementOf(worker: number, pid: number): number | undefined {
  try {
    const now = workerOf(pid);
    return now === worker ? undefined : now;
  } catch {
    return undefined; // gone, and the next one not there yet
  }
}
