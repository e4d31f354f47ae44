/**
 * @file weights: new weights of GPT-2 small from publish to the last of three policy servers serving them, and how long a running
 * Generate on one of them stands still meanwhile.
 */
import { Worker } from "node:worker_threads";
import { parameterSpecs } from "../../lib/models/index.js";
import { openWeightsBus, type WeightsBus } from "../../lib/weights/index.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { loadGpt2 } from "../models.js";
import { Services } from "../services.js";
import { median } from "../statistics.js";
import type { TokenStreamOptions } from "../token-stream.js";

const SERVERS = 3;
const RUN = "bench";

/** What one version took. */
interface Published {
  readonly publishSeconds: number;
  readonly totalSeconds: number;
  readonly megabytes: number;
  /** Of a Generate that runs meanwhile, where there is one. */
  readonly generate?: {
    /** Between tokens, in ms. */
    readonly longestPauseMs: number;
    readonly usualStepMs: number;
  };
}

/** How the weights travel, and whether a server generates meanwhile. */
const WAYS = [
  { kind: "NATS", generating: true },
  { kind: "NATS", generating: false },
  { kind: "files", generating: true },
] as const;

/** Publishing. */
export const weights: Benchmark = {
  name: "weights",
  title: `weights of GPT-2 small from publish to ${SERVERS} servers serving`,
  models: ["gpt2"],
  async run(bench) {
    for (const way of WAYS) await measure(bench, way);
  },
};

async function measure(bench: Bench, { kind, generating }: (typeof WAYS)[number]): Promise<void> {
  const services = new Services(bench, "weights");
  try {
    const bus = await services.bus(kind);
    if (bus.kind !== kind) return bench.note(`not measured over ${kind}: there is no nats-server`);
    const flags = ["--model", bench.model("gpt2"), "--weights", bus.url, "--run", RUN];
    const numbers = Array.from({ length: SERVERS }, (_, i) => i + 1);
    const servers = await Promise.all(numbers.map((i) => services.start("policy", flags, `policy-${i}`)));
    const publisher = await openWeightsBus(bus.url, { run: RUN, model: "policy" });
    services.onStop(() => publisher.close());
    const tensors = await tensorsOf(bench);
    const results: Published[] = [];
    const runs = bench.runs ?? sized(bench, 5, 1);
    const name = `over ${kind}, ${generating ? "beside a Generate" : "servers idle"}`;
    for (let version = 1; version <= runs + 1; version++) {
      bench.say(`${name}: version ${version} of ${runs + 1}`);
      const address = generating ? servers[0].address : undefined;
      const result = await publish(bench, publisher, tensors, version, address);
      services.assertAlive();
      if (version > 1) results.push(result); // the first also warms the servers up
      await publisher.prune(1);
    }
    report(bench, name, results);
  } finally {
    await services.stop();
  }
}

function report(bench: Bench, how: string, results: readonly Published[]): void {
  const name = `${Math.round(results[0].megabytes)} MB to ${SERVERS} servers ${how}`;
  const row = (metric: string, unit: string, pick: (result: Published) => number | undefined) => {
    const samples = results.flatMap((result) => pick(result) ?? []);
    if (samples.length > 0) bench.row({ case: name, metric, unit, samples });
  };
  row("until all serve", "s", ({ totalSeconds }) => totalSeconds);
  row("of it, publish", "s", ({ publishSeconds }) => publishSeconds);
  row("sent by publisher and bus", "MiB", ({ megabytes }) => ((1 + SERVERS) * megabytes * 1e6) / 2 ** 20);
  row("longest pause of a Generate", "ms", ({ generate }) => generate?.longestPauseMs);
  row("its usual decode step", "ms", ({ generate }) => generate?.usualStepMs);
}

async function tensorsOf(bench: Bench) {
  const { config, weights: values } = await loadGpt2(bench.model("gpt2"));
  const specs = parameterSpecs(config, "causal-lm");
  return new Map(specs.map(({ name, shape }) => [name, { shape: [...shape], data: values.get(name)! }]));
}

/** Publishes one version, while a Generate streams from the server at `address`, if there is one. */
async function publish(
  bench: Bench,
  bus: WeightsBus,
  tensors: Awaited<ReturnType<typeof tensorsOf>>,
  version: number,
  address: string | undefined,
): Promise<Published> {
  const watch = address === undefined ? undefined : await GenerateWatch.start(bench, address);
  try {
    await watch?.tokens(sized(bench, 12, 3));
    const usualStepMs = median(watch?.gaps() ?? [0]);
    tensors.values().next().value!.data[0] = version; // other bytes, so another digest
    watch?.forget();
    const started = performance.now();
    const manifest = await bus.publish(tensors, { version });
    const published = performance.now();
    await bus.waitForServing(version, SERVERS, { deadlineMs: 300_000 });
    const done = performance.now();
    await watch?.tokens(2);
    return {
      publishSeconds: (published - started) / 1000,
      totalSeconds: (done - started) / 1000,
      megabytes: manifest.bytes / 1e6,
      ...(watch && { generate: { longestPauseMs: Math.max(...watch.gaps()), usualStepMs } }),
    };
  } finally {
    await watch?.stop();
  }
}

/**
 * A Generate that streams for as long as it is watched, and the times between its tokens. It runs in a thread of its own: this one
 * publishes, and would see tokens late.
 */
class GenerateWatch {
  readonly #thread: Worker;
  readonly #times: number[] = [];
  #wake: (() => void) | undefined;
  #failure: unknown;

  private constructor(options: TokenStreamOptions) {
    this.#thread = new Worker(new URL("../token-stream.js", import.meta.url), { workerData: options });
    this.#thread.on("message", (time: number) => {
      this.#times.push(time);
      this.#wake?.();
    });
    this.#thread.on("error", (error) => {
      this.#failure = error;
      this.#wake?.();
    });
  }

  static async start(bench: Bench, address: string): Promise<GenerateWatch> {
    const watch = new GenerateWatch({ address, maxNewTokens: sized(bench, 900, 100) });
    await watch.tokens(1);
    return watch;
  }

  /** Waits for `count` more tokens. */
  async tokens(count: number): Promise<void> {
    for (const end = this.#times.length + count; this.#times.length < end; ) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Times between tokens since the start or the last `forget`, in ms. */
  gaps(): number[] {
    return this.#times.slice(1).map((time, i) => time - this.#times[i]);
  }

  /** Starts anew with the newest token. */
  forget(): void {
    this.#times.splice(0, this.#times.length - 1);
  }

  async stop(): Promise<void> {
    await this.#thread.terminate();
  }
}
