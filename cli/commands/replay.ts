/** @file `rlhf runs replay` and `rlhf runs diff`: whether a run's numbers come out again, and where two runs part. */
import type {
  DiffRunsResponse,
  QuantityDifference,
  ReplayRunResponse,
} from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { CliError, EXIT } from "../exit-codes.js";
import { type Output, printable } from "../output.js";
import { type RunsOptions, withTrainer } from "./runs.js";

/** A replay passes through as many batches as lie between two checkpoints. */
const REPLAY_MS = 6 * 3600_000;

/** Differences that are spelled out; the first is what matters. */
const SHOWN = 5;

/** `rlhf runs replay RUN --batch N`. Throws CliError (exit status 1) if a number differs. */
export async function replay(
  runId: string,
  options: RunsOptions & { batch: number },
  output: Output,
): Promise<void> {
  await withTrainer(options, async (client) => {
    const batches: ReplayRunResponse[] = [];
    const request = { runId, batch: BigInt(options.batch) };
    for await (const reply of client.replayRun(request, { deadlineMs: REPLAY_MS })) {
      batches.push(reply);
      if (reply.differences.length === 0) output.say(sameText(reply));
    }
    if (output.json) output.result(batches.map(plainBatch), "");
    const parted = batches.find(({ differences }) => differences.length > 0);
    if (!parted) return;
    const lines = differenceLines(parted.differences, "in the run", "now");
    throw new CliError(`batch ${parted.step} of run ${runId} did not come out again:\n${lines}`, EXIT.failed);
  });
}

/** `rlhf runs diff A B`. Throws CliError (exit status 1) if a number differs. */
export async function diff(
  runId: string,
  otherRunId: string,
  options: RunsOptions,
  output: Output,
): Promise<void> {
  await withTrainer(options, async (client) => {
    const reply = await client.diffRuns({ runId, otherRunId });
    output.result(plainDifference(reply), configurationText(reply, runId, otherRunId));
    const steps = `${runId} has ${reply.steps} steps, ${otherRunId} has ${reply.otherSteps}`;
    if (reply.step === undefined) {
      output.say(`the ${reply.commonSteps} steps that both have are identical (${steps})`);
      return;
    }
    const lines = differenceLines(reply.differences, runId, otherRunId);
    throw new CliError(`the runs part at step ${reply.step} (${steps}):\n${lines}`, EXIT.failed);
  });
}

function sameText({ step, fromStep, compared, failure }: ReplayRunResponse): string {
  if (failure !== "") return `batch ${step}: fails as it did in the run: ${printable(failure)}`;
  const from = fromStep === 0n ? "the start" : `checkpoint ${fromStep}`;
  return `batch ${step}: ${compared} quantities identical (replayed from ${from})`;
}

function differenceLines(differences: readonly QuantityDifference[], first: string, second: string): string {
  const lines = differences.slice(0, SHOWN).map((each) => {
    const of = each.sample === undefined ? "" : ` of sample ${each.sample}`;
    return printable(`  ${each.quantity}${of}: ${each.first} ${first}, ${each.second} ${second}`);
  });
  const more = differences.length - lines.length;
  return [...lines, ...(more > 0 ? [`  and ${more} more`] : [])].join("\n");
}

function configurationText({ configuration }: DiffRunsResponse, first: string, second: string): string {
  if (configuration.length === 0) return "the run files are the same";
  const lines = configuration.map((field) => {
    const note = field.matters ? "" : " (has no part in the numbers)";
    return printable(`  ${field.field}: ${field.first} → ${field.second}${note}`);
  });
  return `the run files of ${first} and ${second} differ:\n${lines.join("\n")}`;
}

function plainBatch({ step, fromStep, compared, differences, failure }: ReplayRunResponse): unknown {
  return {
    step: Number(step),
    fromStep: Number(fromStep),
    compared,
    failure,
    differences: differences.map(plainQuantity),
  };
}

function plainDifference(reply: DiffRunsResponse): unknown {
  return {
    configuration: reply.configuration.map(({ field, first, second, matters }) => ({
      field,
      first,
      second,
      matters,
    })),
    step: reply.step === undefined ? null : Number(reply.step),
    differences: reply.differences.map(plainQuantity),
    steps: Number(reply.steps),
    otherSteps: Number(reply.otherSteps),
    commonSteps: Number(reply.commonSteps),
  };
}

function plainQuantity({ quantity, first, second, sample }: QuantityDifference): unknown {
  return { quantity, first, second, ...(sample === undefined ? {} : { sample }) };
}
