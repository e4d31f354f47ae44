/**
 * @file weights: new weights of GPT-2 small from publish to the last of three policy servers serving them, and how long a running
 * Generate on one of them stands still meanwhile.
 */
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { parameterSpecs } from "../../lib/models/index.js";
import { createClient } from "../../lib/rpc/index.js";
import { openWeightsBus, type WeightsBus } from "../../lib/weights/index.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { loadGpt2 } from "../models.js";
import { Services } from "../services.js";
import { median } from "../statistics.js";

const SERVERS = 3;
const RUN = "bench";

/** What one version took. */
interface Published {
  readonly publishSeconds: number;
  readonly totalSeconds: number;
  readonly megabytes: number;
  /** Between tokens of the running Generate, in ms. */
  readonly longestPauseMs: number;
  readonly usualStepMs: number;
}

/** Publishing. */
export const weights: Benchmark = {
  name: "weights",
  title: `weights of GPT-2 small from publish to ${SERVERS} servers serving, while one generates`,
  models: ["gpt2"],
  async run(bench) {
    const services = new Services(bench, "weights");
    try {
      const bus = await services.bus();
      bench.note(`weights travel over ${bus.kind}`);
      const flags = ["--model", bench.model("gpt2"), "--weights", bus.url, "--run", RUN];
      const numbers = Array.from({ length: SERVERS }, (_, i) => i + 1);
      const servers = await Promise.all(numbers.map((i) => services.start("policy", flags, `policy-${i}`)));
      const publisher = await openWeightsBus(bus.url, { run: RUN, model: "policy" });
      services.onStop(() => publisher.close());
      const tensors = await tensorsOf(bench);
      const results: Published[] = [];
      const runs = bench.runs ?? sized(bench, 5, 1);
      for (let version = 1; version <= runs + 1; version++) {
        bench.say(`version ${version} of ${runs + 1}`);
        const result = await publish(bench, publisher, tensors, version, servers[0].address);
        services.assertAlive();
        if (version > 1) results.push(result); // the first also warms the servers up
        await publisher.prune(1);
      }
      report(bench, results);
    } finally {
      await services.stop();
    }
  },
};

function report(bench: Bench, results: readonly Published[]): void {
  const bytes = Math.round(results[0].megabytes);
  const name = `${bytes} MB to ${SERVERS} servers`;
  const row = (metric: string, unit: string, pick: (result: Published) => number) =>
    bench.row({ case: name, metric, unit, samples: results.map(pick) });
  row("until all serve", "s", ({ totalSeconds }) => totalSeconds);
  row("of it, publish", "s", ({ publishSeconds }) => publishSeconds);
  row("sent by publisher and bus", "MiB", ({ megabytes }) => ((1 + SERVERS) * megabytes * 1e6) / 2 ** 20);
  row("longest pause of a Generate", "ms", ({ longestPauseMs }) => longestPauseMs);
  row("its usual decode step", "ms", ({ usualStepMs }) => usualStepMs);
}

async function tensorsOf(bench: Bench) {
  const { config, weights: values } = await loadGpt2(bench.model("gpt2"));
  const specs = parameterSpecs(config, "causal-lm");
  return new Map(specs.map(({ name, shape }) => [name, { shape: [...shape], data: values.get(name)! }]));
}

async function publish(
  bench: Bench,
  bus: WeightsBus,
  tensors: Awaited<ReturnType<typeof tensorsOf>>,
  version: number,
  address: string,
): Promise<Published> {
  const watch = await GenerateWatch.start(bench, address);
  try {
    await watch.tokens(sized(bench, 12, 3));
    const usualStepMs = median(watch.gaps());
    tensors.values().next().value!.data[0] = version; // other bytes, so another digest
    watch.forget();
    const started = performance.now();
    const manifest = await bus.publish(tensors, { version });
    const published = performance.now();
    await bus.waitForServing(version, SERVERS, { deadlineMs: 300_000 });
    const done = performance.now();
    await watch.tokens(2);
    return {
      publishSeconds: (published - started) / 1000,
      totalSeconds: (done - started) / 1000,
      megabytes: manifest.bytes / 1e6,
      longestPauseMs: Math.max(...watch.gaps()),
      usualStepMs,
    };
  } finally {
    await watch.stop();
  }
}

/** A Generate that streams for as long as it is watched, request after request, and the times between its tokens. */
class GenerateWatch {
  readonly #client;
  readonly #stop = new AbortController();
  readonly #times: number[] = [];
  readonly #loop: Promise<void>;
  #wake: (() => void) | undefined;
  #failure: unknown;

  private constructor(bench: Bench, address: string) {
    this.#client = createClient(PolicyService, address, { deadlineMs: 600_000, retry: false });
    this.#loop = this.#run(sized(bench, 900, 100)).catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.#failure = error;
      this.#wake?.();
    });
  }

  static async start(bench: Bench, address: string): Promise<GenerateWatch> {
    const watch = new GenerateWatch(bench, address);
    await watch.tokens(1);
    return watch;
  }

  async #run(maxNewTokens: number): Promise<void> {
    const request = {
      prompts: [{ input: { case: "tokens" as const, value: { ids: [1, 2, 3, 4] } } }],
      options: { maxNewTokens, ignoreEos: true },
    };
    while (!this.#stop.signal.aborted) {
      for await (const { event } of this.#client.generateStream({ request }, { signal: this.#stop.signal })) {
        if (event.case !== "token") continue;
        this.#times.push(performance.now());
        this.#wake?.();
      }
    }
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
    this.#stop.abort();
    await this.#loop;
    this.#client.close();
  }
}
