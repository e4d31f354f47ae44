/**
 * @file The command line of the suite.
 */
import { availableParallelism } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { packageRoot } from "../lib/config/package-root.js";
import type { EngineDevice } from "../lib/engine/index.js";
import type { BenchOptions } from "./bench.js";

const DEVICES: readonly EngineDevice[] = ["cpu", "cuda", "webgpu"];

/** What the command line asks for. */
export interface CommandLine {
  readonly action: "run" | "list" | "render" | "help";
  /** Benchmarks to run. */
  readonly names: readonly string[];
  readonly options: BenchOptions;
  /** Python interpreter of the peers; none: they are not run. */
  readonly peers?: string;
  /** Rounds in which ours and theirs take turns; default: each benchmark's own. */
  readonly rounds?: number;
  /** Folder for the results; none: they are only shown. */
  readonly out?: string;
}

/** A command line that cannot be followed. */
export class UsageError extends Error {
  readonly code = "USAGE";
}

/** What `--help` prints. */
export const USAGE = `npm run bench -- [NAME…] [options]

  --list            name the benchmarks
  --quick           tiny sizes: shows that everything works, measures nothing, writes no results
  --peers PYTHON    let PyTorch, transformers and bert-score do the same work in turns, and show ratios
  --rounds N        turns with peers (default: 2; 1 for long benchmarks)
  --runs N          runs of each case (default: each benchmark's own)
  --threads N       threads of one operator (default: all cores)
  --device NAME     cpu, cuda or webgpu (default: cpu)
  --out DIR         folder for results (default: bench/results)
  --render          write the newest results into docs/performance.md`;

/** Reads a command line. `known` are the names of the benchmarks. Throws UsageError naming what is wrong. */
export function parseCommandLine(argv: readonly string[], known: readonly string[]): CommandLine {
  const { values, positionals } = parse(argv);
  const wrong = positionals.find((name) => !known.includes(name));
  if (wrong !== undefined) throw new UsageError(`${wrong}: no such benchmark → ${known.join(", ")}`);
  const count = (flag: "runs" | "rounds" | "threads") => {
    const text = values[flag];
    if (text === undefined) return undefined;
    if (!/^[1-9]\d{0,5}$/.test(text)) throw new UsageError(`--${flag}: ${text} → a whole number from 1`);
    return Number(text);
  };
  const device = values.device as EngineDevice;
  if (!DEVICES.includes(device)) throw new UsageError(`--device: ${device} → one of ${DEVICES.join(", ")}`);
  const root = packageRoot();
  const action = values.help ? "help" : values.list ? "list" : values.render ? "render" : "run";
  const runs = count("runs");
  const rounds = count("rounds");
  const out = values.out ?? (values.quick ? undefined : join(root, "bench", "results"));
  return {
    action,
    names: positionals.length > 0 ? positionals : known,
    options: {
      quick: values.quick,
      threads: count("threads") ?? availableParallelism(),
      device,
      folder: join(root, ".rlhf", "bench"),
      ...(runs === undefined ? {} : { runs }),
    },
    ...(values.peers === undefined ? {} : { peers: interpreter(values.peers) }),
    ...(rounds === undefined ? {} : { rounds }),
    ...(out === undefined ? {} : { out: resolve(out) }),
  };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        help: { type: "boolean", default: false },
        list: { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        render: { type: "boolean", default: false },
        peers: { type: "string" },
        rounds: { type: "string" },
        runs: { type: "string" },
        threads: { type: "string" },
        device: { type: "string", default: "cpu" },
        out: { type: "string" },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** A path stays valid when the working directory changes; a bare name is looked up on the PATH. */
function interpreter(text: string): string {
  return text.includes("/") && !isAbsolute(text) ? resolve(text) : text;
}
