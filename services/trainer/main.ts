/**
 * @file The trainer process: configuration, run manager, service, listen, drain.
 */
import { resolve } from "node:path";
import { z } from "zod";
import { describeFlags, parseServiceArgs, serviceSchema } from "../../lib/rpc/service-config.js";
import { runService } from "../../lib/rpc/service-process.js";
import { Evaluator } from "./evaluate/evaluator.js";
import { runPpo } from "./loop/ppo-run.js";
import { RunManager } from "./runs/manager.js";
import { trainerService } from "./service.js";
import { runReward } from "./supervised/reward-run.js";
import { runSft } from "./supervised/sft-run.js";

/** Time that a step at work gets to end when the process is told to, in milliseconds; the hard limit is 30 s. */
const DRAIN_GRACE_MS = 25_000;

const schema = serviceSchema({
  runsDir: z.string().default("runs").describe("directory of the runs"),
  maxRuns: z.int().min(1).default(1).describe("most runs at work at a time"),
});

/** Runs the service with command-line flags, without the program's own name. */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--help")) {
    process.stdout.write(`rlhf serve trainer [flags]\n\n${describeFlags(schema)}\n`);
    return;
  }
  const configure = () => parseServiceArgs("trainer", argv, schema);
  await runService("trainer", configure, ({ runsDir, maxRuns }, { log }) => {
    const runs = new RunManager({
      runsDirectory: resolve(runsDir),
      runners: { ppo: runPpo, sft: runSft, reward: runReward },
      log,
      maxActive: maxRuns,
    });
    return {
      services: [trainerService(runs, new Evaluator(runs), process.cwd())],
      limits: { maxReceiveBytes: 4 << 20 },
      load: async () => {},
      close: () => runs.drain(DRAIN_GRACE_MS),
    };
  });
}
