/**
 * @file A PPO run as a user has it: policy, reference and reward server, trainer, weights bus, all as processes on loopback; and its
 * steps as they happen.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RunState, TrainerService } from "../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { createClient } from "../lib/rpc/index.js";
import type { Bench } from "./bench.js";
import { Services } from "./services.js";
import type { QaRow } from "./workload.js";

/** What to run. */
export interface TrainerRunOptions {
  /** Name of the benchmark, for its scratch folder. */
  readonly name: string;
  readonly rows: readonly QaRow[];
  /** Batches of PPO. */
  readonly batches: number;
  /** Fields of the run file besides model, data, servers and weights. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** A step that was done: its metrics by name. */
export type Step = Readonly<Record<string, number>>;

/** The processes of a run. */
export class TrainerRun {
  readonly #options: TrainerRunOptions;
  readonly #bench: Bench;
  readonly services: Services;

  constructor(bench: Bench, options: TrainerRunOptions) {
    this.#bench = bench;
    this.#options = options;
    this.services = new Services(bench, options.name);
  }

  /** Starts everything and yields each step as it is done. Throws if the run fails. */
  async *steps(): AsyncGenerator<Step> {
    const { batches } = this.#options;
    const { address, config } = await this.#start();
    const client = createClient(TrainerService, address, { deadlineMs: 3_600_000, retry: false });
    this.services.onStop(async () => client.close());
    const { run } = await client.startRun({ config, runId: "bench" });
    const deadlineMs = 20 * 3_600_000;
    let done = 0;
    for await (const { body } of client.watchRun({ runId: run?.id }, { deadlineMs })) {
      this.services.assertAlive();
      if (body.case === "run" && body.value.state === RunState.FAILED)
        throw new Error(`run: ${body.value.reason}`);
      if (body.case === "log" && body.value.level !== "info") this.#bench.say(body.value.message);
      if (body.case !== "step") continue;
      done += 1;
      yield body.value.metrics;
    }
    if (done !== batches) throw new Error(`the run ended after ${done} of ${batches} batches`);
  }

  async #start(): Promise<{ address: string; config: string }> {
    const { services } = this;
    const bench = this.#bench;
    const folder = await services.scratch();
    const bus = await services.bus();
    bench.note(`weights travel over ${bus.kind}`);
    const model = bench.model("gpt2");
    const runsDirectory = join(folder, "runs");
    const [trainer, policy, reference, reward] = await Promise.all([
      services.start("trainer", ["--runs-dir", runsDirectory]),
      services.start("policy", ["--model", model, "--weights", bus.url, "--run", "bench"]),
      services.start("policy", ["--model", model, "--pinned"], "reference"),
      services.start("reward", ["--model", bench.model("classifier")]),
    ]);
    const train = join(folder, "rows.jsonl");
    await writeFile(train, this.#options.rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    const config = {
      kind: "ppo",
      seed: 1,
      model,
      threads: bench.threads,
      device: bench.device,
      data: { train, template: "{question}" },
      rewards: [{ type: "classifier" }],
      batches: this.#options.batches,
      checkpoint: { every: 1_000_000 },
      ...this.#options.config,
      servers: {
        policy: { addresses: [policy.address] },
        reference: { addresses: [reference.address] },
        reward: { addresses: [reward.address] },
      },
      weights: { bus: bus.url },
    };
    return { address: trainer.address, config: JSON.stringify(config) };
  }
}
