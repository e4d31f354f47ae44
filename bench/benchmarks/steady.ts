/**
 * @file steady: many batches of a tiny run. Time per batch and the memory of every process must stay flat, else something is kept
 * that should go.
 */
import { loadTokenizer } from "../../lib/tokenizer/index.js";
import { type Bench, type Benchmark, sized } from "../bench.js";
import { modelDirectory, modelJson, prepareModel } from "../models.js";
import { processMemory, type Services } from "../services.js";
import { blockMeans, trend } from "../statistics.js";
import { TrainerRun } from "../trainer-run.js";
import { knownWords } from "../words.js";
import { qaRows } from "../workload.js";

/** Batches whose mean is one point of the trend. */
const BLOCK = 10;

/** Batches of the run. Heaps go on filling for more than a thousand: over the last 200 of 300, scorers and reference grew by 12 to 45 KiB a batch. */
const BATCHES = 4000;

/** Limits of V8 for each service. Collecting often also shows memory that native code uses longer than JavaScript holds it. */
const SMALL_HEAP = "--max-old-space-size=48 --max-semi-space-size=2";

/** Memory in MiB of each process over the batches. */
type Memory = Map<string, number[]>;

/** Many batches. */
export const steady: Benchmark = {
  name: "steady",
  title: `${BATCHES} batches of a tiny run: trend of the last 200 in time per batch and memory of each process`,
  models: [],
  rounds: 1,
  async run(bench) {
    const tiny = await tinyBench(bench);
    const batches = sized(bench, BATCHES, 12);
    const run = new TrainerRun(tiny, {
      name: "steady",
      rows: await rowsOf(tiny),
      batches,
      config: {
        ppo: { batchSize: 8, minibatchSize: 4, epochs: 2, earlyStopping: false, ratioThreshold: null },
        generation: { maxNewTokens: 8, topK: 50 },
        checkpoint: { every: 20 },
      },
    });
    const seconds: number[] = [];
    const memory: Memory = new Map();
    const restore = limitHeaps();
    try {
      for await (const step of run.steps()) {
        seconds.push(step["time/batch"]);
        if (seconds.length % 50 === 0) bench.say(`batch ${seconds.length} of ${batches}`);
        sampleMemory(run.services, memory);
      }
    } finally {
      restore();
      await run.services.stop();
    }
    report(bench, seconds, memory);
  },
};

/**
 * Gives processes that are started from here on a small JavaScript heap, until the returned function is called. With a large one,
 * garbage is left lying for a thousand batches, and a leak cannot be told from it.
 */
function limitHeaps(): () => void {
  const before = process.env.NODE_OPTIONS;
  process.env.NODE_OPTIONS = `${before ?? ""} ${SMALL_HEAP}`.trim();
  return () => {
    if (before === undefined) delete process.env.NODE_OPTIONS;
    else process.env.NODE_OPTIONS = before;
  };
}

/** The same with tiny models: the point is the number of batches, not the size of the model. */
async function tinyBench(bench: Bench): Promise<Bench> {
  const options = { folder: bench.folder, quick: true };
  for (const name of ["gpt2", "classifier"] as const) await prepareModel(name, options, bench.say);
  return { ...bench, ...options, model: (name) => modelDirectory(name, options) };
}

async function rowsOf(tiny: Bench) {
  const tokenizer = await loadTokenizer(tiny.model("gpt2"));
  const known = knownWords("gpt2", Number(modelJson("gpt2", tiny).vocab_size));
  const lengths = Array.from({ length: 32 }, (_, i) => ({ prompt: 9 + (i % 5), newTokens: 8 }));
  return qaRows(lengths, { tokenizer, known, overhead: 5 });
}

/** Adds the memory of each service: its own process, and its model worker where it has one. */
function sampleMemory(services: Services, memory: Memory): void {
  for (const { name, pid } of services.running) {
    for (const [member, mib] of processMemory(pid)) {
      const key = member === pid ? name : `${name}, worker`;
      const series = memory.get(key) ?? [];
      memory.set(key, series);
      series.push(mib);
    }
  }
}

function report(bench: Bench, seconds: readonly number[], memory: Memory): void {
  const last = sized(bench, 200, 10);
  const block = sized(bench, BLOCK, 2);
  const late = seconds.slice(-last);
  bench.row({ case: "batch", metric: "time", unit: "ms", samples: late.map((time) => 1000 * time) });
  addTrend(
    bench,
    "batch",
    "time",
    "µs",
    late.map((time) => 1e6 * time),
    block,
  );
  for (const [name, mib] of memory) {
    const series = mib.slice(-last);
    bench.row({ case: name, metric: "memory", unit: "MiB", samples: series });
    addTrend(
      bench,
      name,
      "memory",
      "KiB",
      series.map((value) => 1024 * value),
      block,
    );
  }
}

/** Growth per batch, and whether it can be told from none: within two standard errors it cannot. */
function addTrend(
  bench: Bench,
  name: string,
  what: string,
  unit: string,
  values: number[],
  block: number,
): void {
  const means = blockMeans(values, block);
  const line = trend(means);
  const [slope, error] = [line.slope / block, line.standardError / block];
  bench.row({
    case: name,
    metric: `growth of ${what}`,
    unit: `${unit}/batch`,
    samples: [slope],
    better: "lower",
  });
  bench.row({
    case: name,
    metric: `standard error of growth of ${what}`,
    unit: `${unit}/batch`,
    samples: [error],
    better: "lower",
  });
  const verdict = slope > 2 * error ? "grows" : "no growth that can be told from none";
  bench.note(`${name}: ${what} ${verdict} (${slope.toFixed(2)} ± ${error.toFixed(2)} ${unit} a batch)`);
}
