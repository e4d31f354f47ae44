/**
 * @file The trainer process: configuration, run manager, service, listen, drain.
 */
import { join, resolve } from "node:path";
import { z } from "zod";
import { createEngine, type EngineDevice } from "../../lib/engine/index.js";
import { serverInfo } from "../../lib/rpc/server-info.js";
import { parseServiceArgs, serviceHelp, serviceSchema } from "../../lib/rpc/service-config.js";
import { runService } from "../../lib/rpc/service-process.js";
import { Evaluator } from "./evaluate/evaluator.js";
import { runPpo } from "./loop/ppo-run.js";
import { Replayer } from "./replay/replayer.js";
import { RunManager } from "./runs/manager.js";
import { TRAINER_LIMITS, trainerService } from "./service.js";
import { runEncoder } from "./supervised/encoder-run.js";
import { runReward } from "./supervised/reward-run.js";
import { runSft } from "./supervised/sft-run.js";

/** Time that a step at work gets to end when the process is told to, in milliseconds; the hard limit is 30 s. */
const DRAIN_GRACE_MS = 25_000;

const schema = serviceSchema({
  runsDir: z.string().default("runs").describe("directory of the runs"),
  device: z
    .enum(["cpu", "cuda", "webgpu"])
    .default("cpu")
    .describe("where a learner computes whose run file does not say: cpu, cuda or webgpu"),
  maxRuns: z.int().min(1).default(1).describe("most runs at work at a time"),
  resumeInterrupted: z
    .boolean()
    .default(false)
    .describe("at the start, go on with runs that were interrupted when a trainer ended"),
  dashboardListen: z
    .string()
    .optional()
    .describe("serve the dashboard here, e.g. 127.0.0.1:8080; --insecure allows more than loopback"),
});

interface Dashboard {
  readonly url: string;
  close(): Promise<void>;
}

/** The dashboard reads run directories and knows no service; they meet at run time, as the command line and services do. */
function loadDashboard(): Promise<{
  startDashboard(options: {
    runsDirectory: string;
    listen: string;
    insecure: boolean;
    onError: (error: Error) => void;
  }): Promise<Dashboard>;
}> {
  return import(new URL("../../dashboard/server.js", import.meta.url).href);
}

/** Name of the engine that computes on a device. Throws DeviceUnavailableError where it cannot be used. */
async function engineOf(device: EngineDevice): Promise<string> {
  const engine = await createEngine({ device });
  await engine.close();
  return engine.name;
}

/** Runs the service with command-line flags, without the program's own name. */
export async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--help")) {
    process.stdout.write(serviceHelp("trainer", schema, "--runs-dir runs --listen 127.0.0.1:50050"));
    return;
  }
  const configure = () => parseServiceArgs("trainer", argv, schema);
  await runService(
    "trainer",
    configure,
    ({ runsDir, device, maxRuns, resumeInterrupted, dashboardListen, insecure, instance }, kit) => {
      const { log } = kit;
      let dashboard: Dashboard | undefined;
      let engine = "";
      const runs = new RunManager({
        runsDirectory: resolve(runsDir),
        runners: { ppo: runPpo, sft: runSft, reward: runReward, encoder: runEncoder },
        log,
        maxActive: maxRuns,
        defaults: { device },
      });
      const described = () =>
        serverInfo({
          device,
          engine,
          limits: kit.server().limits,
          serviceLimits: { ...TRAINER_LIMITS, max_runs: maxRuns },
          instance,
        });
      return {
        services: [trainerService(runs, new Evaluator(runs), new Replayer(runs), process.cwd(), described)],
        limits: { maxReceiveBytes: 4 << 20 },
        load: async () => {
          engine = await engineOf(device);
          if (resumeInterrupted) runs.resumeInterrupted();
          if (dashboardListen === undefined) return;
          const { startDashboard } = await loadDashboard();
          dashboard = await startDashboard({
            runsDirectory: resolve(runsDir),
            listen: dashboardListen,
            insecure,
            onError: (error) => log.error({ err: error }, "dashboard"),
          });
          log.info({ url: dashboard.url }, "dashboard");
        },
        close: async () => {
          await runs.drain(DRAIN_GRACE_MS);
          await dashboard?.close();
        },
      };
    },
    ({ runsDir }) => ({ traceFileOf: (run) => join(resolve(runsDir), run, "traces", "trainer.jsonl") }),
  );
}
