/**
 * @file Runs benchmarks one after another, each in a process of its own and, where peers are asked for, in turns with them; puts rows,
 * ceiling, machine and versions together into a result.
 */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Benchmark, BenchOptions } from "./bench.js";
import { ceilingShape, shapeName } from "./ceiling.js";
import { benchOf, type Job, type Report } from "./child.js";
import { describeCommit, describeMachine, describeVersions } from "./machine.js";
import { prepareModel } from "./models.js";
import { PeerError, runPeer } from "./peers.js";
import type { Result } from "./results.js";
import { mergeRows, type Row, ratiosOf, resultOf } from "./rows.js";
import { median, summarize } from "./statistics.js";

const CHILD = fileURLToPath(new URL("./child.js", import.meta.url));
const DEFAULT_ROUNDS = 2;

/** How a benchmark is run. */
export interface SuiteOptions {
  readonly options: BenchOptions;
  /** Python interpreter of the peers. */
  readonly peers?: string;
  readonly rounds?: number;
  /** Hears how far it is. */
  readonly say: (text: string) => void;
}

/** What one turn of ours gave. */
interface Turn {
  readonly rows: Row[];
  readonly notes: string[];
  /** GFLOP/s before and after. */
  readonly ceilings: number[][];
}

/** Runs one benchmark. Throws where it fails; a peer that fails is noted. */
export async function runBenchmark(benchmark: Benchmark, suite: SuiteOptions): Promise<Result> {
  const { options } = suite;
  const date = new Date().toISOString();
  const machine = describeMachine();
  const say = (text: string) => suite.say(`${benchmark.name}: ${text}`);
  for (const name of benchmark.models) await prepareModel(name, options, say);
  const peer = suite.peers === undefined ? undefined : benchmark.peer?.(benchOf(options, () => {}));
  const rounds = peer ? (suite.rounds ?? benchmark.rounds ?? DEFAULT_ROUNDS) : 1;
  const turns: Turn[] = [];
  const theirs: Row[] = [];
  const versions: Record<string, string> = describeVersions();
  const notes: string[] = [];
  for (let round = 1; round <= rounds && notes.length === 0; round++) {
    if (peer) say(`round ${round} of ${rounds}`);
    turns.push(await runChild({ name: benchmark.name, options }, say));
    if (!peer) continue;
    say(`peer ${peer.script}`);
    try {
      const report = await runPeer(suite.peers!, peer, options, say);
      theirs.push(...report.rows);
      Object.assign(versions, report.versions);
    } catch (error) {
      if (!(error instanceof PeerError)) throw error;
      notes.push(`peer failed: ${error.message}`); // ours stand without it
    }
  }
  const ceiling = turns
    .flatMap(({ ceilings }) => ceilings)
    .reduce((a, b) => (median(a) >= median(b) ? a : b));
  const most = median(ceiling) * 1e9;
  const rows = mergeRows(turns.flatMap((turn) => turn.rows)).map((row) => resultOf(row, most));
  const peers = mergeRows(theirs).map((row) => resultOf(row));
  return {
    name: benchmark.name,
    title: benchmark.title,
    date,
    commit: describeCommit(),
    quick: options.quick,
    device: options.device,
    threads: options.threads,
    rounds,
    machine,
    versions,
    ceiling: { shape: shapeName(ceilingShape(options)), ...summarize(ceiling), samples: ceiling },
    rows,
    peers,
    ratios: ratiosOf(rows, peers),
    notes: [...new Set(turns.flatMap((turn) => turn.notes)), ...notes],
  };
}

/** One turn in a process of its own. */
function runChild(job: Job, say: (text: string) => void): Promise<Turn> {
  const turn: Turn = { rows: [], notes: [], ceilings: [] };
  return new Promise((resolve, reject) => {
    const child = fork(CHILD, { stdio: ["ignore", "inherit", "inherit", "ipc"], serialization: "advanced" });
    let outcome: Report | undefined;
    child.once("error", reject);
    child.on("message", (message: Report) => {
      if (message.kind === "row") turn.rows.push(message.row);
      else if (message.kind === "note") turn.notes.push(message.text);
      else if (message.kind === "say") say(message.text);
      else if (message.kind === "ceiling") turn.ceilings.push(message.samples);
      else outcome = message;
    });
    child.once("exit", (code, signal) => {
      if (outcome?.kind === "done") resolve(turn);
      else
        reject(
          new Error(
            `${job.name}: ${outcome?.kind === "failed" ? outcome.text : `ended with ${signal ?? code}`}`,
          ),
        );
    });
    child.send(job);
  });
}
