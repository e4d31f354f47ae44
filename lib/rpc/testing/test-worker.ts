/** @file A model worker for the tests of ModelHost: it echoes, waits, streams, hangs and dies as it is told. */
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { serveWorker, type WorkerCall } from "../serve-worker.js";

/** What the worker is started with. */
export interface TestWorkerConfig {
  /** Makes init fail with this code. */
  failInit?: string;
  /** Time that loading takes, in milliseconds. */
  loadMs?: number;
  /** File that is written when the worker is closed. */
  closeFile?: string;
  /** Ends the process while it loads. */
  exitWhileLoading?: boolean;
}

const seen = { aborted: 0, started: 0 };

function methods(config: TestWorkerConfig) {
  return {
    /** Gives back what it gets. */
    echo: async (value: unknown) => value,
    config: () => config,
    pid: () => process.pid,
    seen: () => seen,
    /** Waits; counts when it is told to stop. */
    wait: async ({ ms }: { ms: number }, { signal }: WorkerCall) => {
      seen.started++;
      signal.addEventListener("abort", () => seen.aborted++);
      await sleep(ms, undefined, { signal });
      return "waited";
    },
    count: async ({ to, ms = 0 }: { to: number; ms?: number }, { emit, signal }: WorkerCall) => {
      signal.addEventListener("abort", () => seen.aborted++);
      for (let i = 0; i < to; i++) {
        if (ms > 0) await sleep(ms, undefined, { signal });
        emit(i);
      }
      return "counted";
    },
    fail: async (facts: object) => {
      throw Object.assign(new Error("as asked"), facts);
    },
    deadline: async (_: null, call: WorkerCall) => call.deadline,
    trace: async (_: null, { traceparent }: WorkerCall) => traceparent,
    uncloneable: async () => () => "functions cannot travel",
    /** Blocks the event loop, as a native hang would. */
    hang: async () => {
      for (;;) Math.random();
    },
    rejectLater: async () => {
      setTimeout(() => void Promise.reject(new Error("nobody handles this")), 1);
    },
    exit: async (code: number) => {
      process.exit(code);
    },
  };
}

/** Methods of the worker. */
export type TestWorkerMethods = ReturnType<typeof methods>;

serveWorker<TestWorkerConfig, TestWorkerMethods>({
  init: async (config, { event }) => {
    if (config.loadMs) await sleep(config.loadMs);
    if (config.exitWhileLoading) process.exit(3);
    if (config.failInit)
      throw Object.assign(new Error("model.safetensors: header length 0"), { code: config.failInit });
    event("loaded", { pid: process.pid });
    const close = async () => {
      await sleep(20);
      if (config.closeFile) writeFileSync(config.closeFile, "closed");
    };
    return { methods: methods(config), info: { name: "test", pid: process.pid }, close };
  },
});
