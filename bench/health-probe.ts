/**
 * @file Asks services for their health all the time while they work, as a load balancer would, and keeps how long each answer took.
 * A front process whose event loop is blocked answers late.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../lib/api/gen/grpc/health/v1/health_pb.js";
import { createClient } from "../lib/rpc/index.js";

/** Probes of some services, running until stopped. */
export class HealthProbe {
  readonly #stop = new AbortController();
  readonly #answers = new Map<string, number[]>();
  readonly #loops: Promise<void>[];

  /** Starts to probe these services, by name and address, each `intervalMs` after the last answer. */
  constructor(
    services: readonly { readonly name: string; readonly address: string }[],
    private readonly intervalMs: number,
  ) {
    this.#loops = services.map(({ name, address }) => this.#probe(name, address));
    for (const loop of this.#loops) loop.catch(() => {}); // heard by stop
  }

  /** Ends; milliseconds of every answer by service. Throws if a service was not serving. */
  async stop(): Promise<Map<string, number[]>> {
    this.#stop.abort();
    await Promise.all(this.#loops);
    return this.#answers;
  }

  async #probe(name: string, address: string): Promise<void> {
    const answers: number[] = [];
    this.#answers.set(name, answers);
    const client = createClient(Health, address, { deadlineMs: 10_000, retry: false, healthCheck: false });
    try {
      await client.check({ service: "" }); // connects
      while (!this.#stop.signal.aborted) {
        const started = performance.now();
        const { status } = await client.check({ service: "" });
        if (status !== Serving.SERVING) throw new Error(`health of ${name}: not serving`);
        answers.push(performance.now() - started);
        await sleep(this.intervalMs);
      }
    } finally {
      client.close();
    }
  }
}
