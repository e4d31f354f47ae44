/**
 * @file Follows a run and shows it: a progress bar, plain lines, or JSON lines. Returns how the run ended.
 */
import {
  type Run,
  RunState,
  type TrainerService,
  type WatchRunResponse,
} from "../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { type Client, RpcError } from "../lib/rpc/index.js";
import { CliError, EXIT } from "./exit-codes.js";
import { type Output, printable, toJson } from "./output.js";
import { Progress, type ProgressFigures } from "./progress.js";

/** A stream of events is asked for anew at least this often. */
const WATCH_MS = 3600_000;

/** Attempts in a row that may find no trainer. */
const RECONNECTS = 5;

/** Follows a run to its end, whatever that is. Throws RpcError if the trainer goes away. */
export async function watchRun(
  client: Client<(typeof TrainerService)["method"]>,
  runId: string,
  output: Output,
  options: { signal?: AbortSignal; fromEvent?: bigint; title?: string } = {},
): Promise<Run> {
  const progress = new Progress(options.title ?? runId);
  let shown: ProgressFigures = { step: 0, totalSteps: 0, figures: [] };
  const show = (event: WatchRunResponse) => {
    if (output.json) {
      process.stdout.write(`${toJson(plain(event))}\n`);
    } else if (event.body.case === "step") {
      const { step, totalSteps, metrics, secondsLeft } = event.body.value;
      shown = {
        step: Number(step),
        totalSteps: Number(totalSteps),
        figures: figuresOf(metrics),
        secondsLeft,
      };
      progress.show(shown);
    } else if (event.body.case === "phase") {
      progress.show({ ...shown, phase: event.body.value.phase });
    } else if (event.body.case === "log") {
      const { level, message } = event.body.value;
      if (level !== "info") progress.note(`${level}: ${printable(message)}`);
    }
  };
  try {
    for (let next = options.fromEvent ?? 0n, failures = 0; ; ) {
      try {
        const stream = client.watchRun(
          { runId, fromEvent: next },
          { deadlineMs: WATCH_MS, ...(options.signal ? { signal: options.signal } : {}) },
        );
        for await (const event of stream) {
          show(event);
          next = event.event + 1n;
          failures = 0;
        }
        break;
      } catch (error) {
        // connections age and are closed by servers on purpose; the stream goes on where it was
        const cut =
          error instanceof RpcError &&
          ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"].includes(error.status);
        failures += 1;
        if (!cut || failures > RECONNECTS || options.signal?.aborted) throw error;
        await new Promise((resolve) => setTimeout(resolve, 200 * failures));
      }
    }
  } finally {
    progress.end();
  }
  const { run } = await client.getRun({ runId });
  if (!run) throw new CliError(`run ${runId}: the trainer gave no run`, EXIT.failed);
  return run;
}

/** Throws CliError unless the run finished (or was stopped or paused, which is no failure). */
export function assertEnded(run: Run): void {
  if (run.state === RunState.FAILED || run.state === RunState.INTERRUPTED) {
    const how = run.state === RunState.FAILED ? "failed" : "was interrupted";
    throw new CliError(
      `run ${run.id} ${how}: ${run.reason}\nits log and checkpoints are in ${run.directory}; \`rlhf runs resume ${run.id}\` goes on from the last checkpoint`,
      EXIT.failed,
    );
  }
}

/** The figures people watch, of a step's metrics. */
export function figuresOf(metrics: Readonly<Record<string, number>>): (readonly [string, string])[] {
  const wanted: readonly (readonly [metric: string, label: string, digits: number])[] = [
    ["env/reward_mean", "reward", 3],
    ["objective/kl", "KL", 2],
    ["ppo/loss/total", "loss", 4],
    ["sft/loss", "loss", 3],
    ["sft/test_loss", "test loss", 3],
    ["classifier/loss", "loss", 3],
    ["classifier/accuracy", "accuracy", 3],
    ["mlm/loss", "loss", 3],
    ["mlm/test_loss", "test loss", 3],
    ["time/tokens_per_second", "tokens/s", 0],
  ];
  return wanted.flatMap(([metric, label, digits]) => {
    const value = metrics[metric];
    return value === undefined || !Number.isFinite(value) ? [] : [[label, value.toFixed(digits)] as const];
  });
}

/** An event without protobuf's own fields, for JSON. */
function plain(event: WatchRunResponse): unknown {
  const { body } = event;
  return {
    event: Number(event.event),
    time: event.time,
    ...(body.case ? { [body.case]: { ...body.value, $typeName: undefined } } : {}),
  };
}
