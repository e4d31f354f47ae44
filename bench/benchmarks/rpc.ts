/**
 * @file rpc: what a call costs beside the model: Score of one short text on a server with a 1-layer classifier, with 1, 16 and
 * 64 calls at a time.
 */
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import { type Client, createClient } from "../../lib/rpc/index.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { latencies } from "../measure.js";
import { modelJson } from "../models.js";
import { Services } from "../services.js";
import { knownWords, sentence } from "../words.js";

type RewardClient = Client<(typeof RewardService)["method"]>;

/** What a burst of calls took. */
interface Burst {
  /** Wall seconds. */
  readonly seconds: number;
  /** Of each call, in ms. */
  readonly latencies: number[];
  /** Time that calls were neither queued nor in the model, as a share of their latency. */
  readonly beside: number;
}

/** The cost of a call. */
export const rpc: Benchmark = {
  name: "rpc",
  title: "calls of Score on a 1-layer classifier, one text of 16 tokens each",
  models: ["classifier-1-layer"],
  async run(bench) {
    const services = new Services(bench, "rpc");
    try {
      const { address } = await services.start("reward", ["--model", bench.model("classifier-1-layer")]);
      const client = createClient(RewardService, address, { deadlineMs: 30_000, retry: false });
      services.onStop(async () => client.close());
      const texts = textsOf(bench);
      const calls = sized(bench, 2000, 20);
      for (const concurrent of sized(bench, [1, 16, 64], [1, 4])) {
        bench.say(`${concurrent} at a time`);
        await burst(client, texts, calls / 4, concurrent);
        const bursts: Burst[] = [];
        const runs = bench.runs ?? sized(bench, 5, 1);
        for (let run = 0; run < runs; run++) bursts.push(await burst(client, texts, calls, concurrent));
        const name = `${concurrent} at a time`;
        const of = bursts.map((each) => latencies(each.latencies));
        const row = (metric: string, unit: string, samples: number[]) =>
          bench.row({ case: name, metric, unit, samples });
        row(
          "calls",
          "calls/s",
          bursts.map(({ seconds }) => calls / seconds),
        );
        row(
          "latency p50",
          "ms",
          of.map(({ p50 }) => p50),
        );
        row(
          "latency p99",
          "ms",
          of.map(({ p99 }) => p99),
        );
        row(
          "neither model nor queue",
          "%",
          bursts.map(({ beside }) => 100 * beside),
        );
      }
    } finally {
      await services.stop();
    }
  },
};

function textsOf(bench: Bench): string[] {
  const known = knownWords("bert", Number(modelJson("classifier-1-layer", bench).vocab_size));
  const rng = Rng.from(6, "rpc");
  return Array.from({ length: 64 }, () => sentence(rng, sized(bench, 14, 4), { known }));
}

async function burst(
  client: RewardClient,
  texts: string[],
  calls: number,
  concurrent: number,
): Promise<Burst> {
  const times: number[] = [];
  let inside = 0;
  let next = 0;
  const caller = async () => {
    for (let call = next++; call < calls; call = next++) {
      const started = performance.now();
      const { timing } = await client.score({ texts: [texts[call % texts.length]] });
      times.push(performance.now() - started);
      inside += (timing?.queueMs ?? 0) + (timing?.modelMs ?? 0);
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: concurrent }, caller));
  const seconds = (performance.now() - started) / 1000;
  return { seconds, latencies: times, beside: 1 - inside / times.reduce((sum, time) => sum + time, 0) };
}
