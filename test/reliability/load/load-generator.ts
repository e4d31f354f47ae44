/** @file The process that makes load: gets a job, calls until its time is over, waits for the last answers, reports. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { Rng } from "../../../lib/dataset/index.js";
import { statusName } from "../../../lib/rpc/codes.js";
import { percentiles } from "../figures.js";
import { frameOf, GrpcWire, type WireOutcome } from "../grpc-wire.js";
import type { LoadJob, LoadReport } from "./protocol.js";

const HEALTH = "/grpc.health.v1.Health/Check";
const HEALTH_DEADLINE_MS = 5000;

/** Makes the load of a job. Rejects where the server can't be reached. */
async function run(job: LoadJob): Promise<LoadReport> {
  const wire = await GrpcWire.connect(job.address, job.connections);
  const probe = await GrpcWire.connect(job.address);
  const frames = job.frames.map((frame) => Buffer.from(frame));
  const { path, deadlineMs } = job;
  const times = new Map<string, number[]>();
  let sent = 0;
  let good = 0;
  const started = performance.now();
  const elapsed = () => performance.now() - started;
  const one = async (): Promise<void> => {
    const body = frames[sent++ % frames.length] as Buffer;
    const outcome = await wire.call({ path, body, deadlineMs });
    const name = nameOf(outcome);
    const list = times.get(name);
    if (list) list.push(outcome.ms);
    else times.set(name, [outcome.ms]);
    const at = elapsed();
    if (name === "OK" && at > job.settleMs && at <= job.durationMs) good++;
  };
  const delays = monitorEventLoopDelay({ resolution: 5 });
  delays.enable();
  const cpu = process.cpuUsage();
  const health = probeHealth(probe, job);
  if (job.callers !== undefined) {
    const caller = async () => {
      while (elapsed() < job.durationMs) await one();
    };
    await Promise.all(Array.from({ length: job.callers }, caller));
  } else {
    await openLoop(job, elapsed, one);
  }
  const used = process.cpuUsage(cpu);
  const latenessMs = Math.max(0, delays.percentile(99) / 1e6 - 5);
  const report: LoadReport = {
    sent,
    outcomes: Object.fromEntries([...times].map(([name, list]) => [name, percentiles(list)])),
    goodput: (good * 1000) / (job.durationMs - job.settleMs),
    health: await health,
    cpu: (used.user + used.system) / 1000 / elapsed(),
    latenessMs,
  };
  wire.close();
  probe.close();
  return report;
}

/** Calls at random moments at a mean rate; resolves when the last call has ended. */
async function openLoop(job: LoadJob, elapsed: () => number, one: () => Promise<void>): Promise<void> {
  const random = Rng.from(job.seed, "arrivals");
  const gapMs = () => (-Math.log(1 - random.uniform()) * 1000) / (job.rate ?? 1);
  const calls: Promise<void>[] = [];
  for (let due = gapMs(); due < job.durationMs; due += gapMs()) {
    const wait = due - elapsed();
    if (wait >= 1) await sleep(wait);
    calls.push(one());
  }
  await Promise.all(calls);
}

async function probeHealth(wire: GrpcWire, job: LoadJob): Promise<LoadReport["health"]> {
  const times: number[] = [];
  const failures: string[] = [];
  if (job.healthEveryMs === 0) return { ...percentiles(times), failures };
  const body = frameOf(new Uint8Array());
  const end = performance.now() + job.durationMs;
  while (performance.now() < end) {
    const outcome = await wire.call({ path: HEALTH, body, deadlineMs: HEALTH_DEADLINE_MS, keepData: true });
    // a HealthCheckResponse that says SERVING is 08 01
    const serving = outcome.status === 0 && outcome.data?.subarray(5).equals(Buffer.from([8, 1]));
    if (serving) times.push(outcome.ms);
    else failures.push(nameOf(outcome));
    await sleep(job.healthEveryMs);
  }
  return { ...percentiles(times), failures };
}

function nameOf({ status, reason, text }: WireOutcome): string {
  if (status === undefined) return text;
  if (status === 0) return "OK";
  return reason === undefined ? statusName(status) : `${statusName(status)} ${reason}`;
}

process.once("disconnect", () => process.exit());
process.on("message", (job: LoadJob) => {
  run(job).then(
    (report) => process.send?.({ report }),
    (error: Error) => process.send?.({ failure: error.stack ?? String(error) }),
  );
});
