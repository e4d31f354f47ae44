/**
 * @file health: how fast a service answers a health check while its model runs without a break. A model that blocked the event loop
 * of the process that answers would show here.
 */
import { BertScoreService } from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import { createClient } from "../../lib/rpc/index.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { HealthProbe } from "../health-probe.js";
import { latencies } from "../measure.js";
import { type ModelName, modelJson } from "../models.js";
import { Services } from "../services.js";
import { sentence } from "../words.js";
import { randomIds } from "../workload.js";

/** A service under load: what is started, and one call that keeps the model busy for a while. */
interface Load {
  readonly service: string;
  readonly model: ModelName;
  readonly args: readonly string[];
  call(bench: Bench, address: string): { work: () => Promise<unknown>; close: () => void };
}

const OPTIONS = { deadlineMs: 300_000, retry: false } as const;

const LOADS: readonly Load[] = [
  {
    service: "policy",
    model: "gpt2",
    args: ["--pinned"],
    call(bench, address) {
      const client = createClient(PolicyService, address, OPTIONS);
      const vocab = Number(modelJson("gpt2", bench).vocab_size);
      const rng = Rng.from(8, "health");
      const ids = () => randomIds(rng, sized(bench, 20, 4), vocab);
      const prompts = Array.from({ length: sized(bench, 32, 4) }, () => ({
        input: { case: "tokens" as const, value: { ids: ids() } },
      }));
      const options = { maxNewTokens: sized(bench, 60, 4), ignoreEos: true };
      return { work: () => client.generate({ prompts, options }), close: () => client.close() };
    },
  },
  {
    service: "reward",
    model: "classifier",
    args: [],
    call(bench, address) {
      const client = createClient(RewardService, address, OPTIONS);
      const texts = textsOf(bench, sized(bench, 64, 4));
      return { work: () => client.score({ texts }), close: () => client.close() };
    },
  },
  {
    service: "bertscore",
    model: "roberta-base",
    args: ["--cache-bytes", "0", "--layer", "1"],
    call(bench, address) {
      const client = createClient(BertScoreService, address, OPTIONS);
      const texts = textsOf(bench, sized(bench, 128, 8));
      const pairs = texts.flatMap((candidate, i) =>
        i % 2 === 0 ? [{ candidate, references: [texts[i + 1]] }] : [],
      );
      return {
        work: () => client.score({ pairs, options: { layer: sized(bench, 10, 1) } }),
        close: () => client.close(),
      };
    },
  },
];

/** Health under load. */
export const health: Benchmark = {
  name: "health",
  title: "answers to health checks while the model runs without a break",
  models: LOADS.map(({ model }) => model),
  async run(bench) {
    for (const load of LOADS) await runLoad(bench, load);
  },
};

function textsOf(bench: Bench, count: number): string[] {
  const rng = Rng.from(9, "health");
  return Array.from({ length: count }, () => sentence(rng, sized(bench, 45, 5), { known: 200 }));
}

async function runLoad(bench: Bench, { service, model, args, call }: Load): Promise<void> {
  bench.say(service);
  const services = new Services(bench, `health-${service}`);
  try {
    const { address } = await services.start(service, ["--model", bench.model(model), ...args]);
    const { work, close } = call(bench, address);
    services.onStop(async () => close());
    await work();
    const probe = new HealthProbe([{ name: service, address }], 20);
    const end = performance.now() + sized(bench, 20_000, 300);
    // two calls at a time, so that the model never waits for the next one
    const worker = async () => {
      while (performance.now() < end) await work();
    };
    await Promise.all([worker(), worker()]);
    addHealthRows(bench, service, await probe.stop());
  } finally {
    await services.stop();
  }
}

/** Rows of what a probe saw: `where` names the case. */
export function addHealthRows(
  bench: Bench,
  where: string,
  answers: ReadonlyMap<string, readonly number[]>,
): void {
  for (const [name, ms] of answers) {
    const { p50, p99, max } = latencies(ms);
    const row = (metric: string, value: number) =>
      bench.row({ case: where === name ? name : `${where}, ${name}`, metric, unit: "ms", samples: [value] });
    row("health p50", p50);
    row("health p99", p99);
    row("health slowest", max);
  }
}
