/** @file Memory and event-loop delay of this process, read when metrics are collected. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { observe } from "./instruments.js";

/** Starts observing; call the result to stop. */
export function observeProcess(): () => void {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  const stops = [
    observe("rlhf.process.memory", (record) => {
      const { rss, heapUsed, external } = process.memoryUsage();
      record(rss, { "rlhf.memory.kind": "rss" });
      record(heapUsed, { "rlhf.memory.kind": "heap" });
      record(external, { "rlhf.memory.kind": "external" });
    }),
    observe("rlhf.process.event_loop.delay", (record) => {
      // an empty window reads as NaN or a huge minimum; say nothing then
      for (const [statistic, nanoseconds] of [
        ["p50", delay.percentile(50)],
        ["p99", delay.percentile(99)],
        ["max", delay.max],
      ] as const) {
        if (delay.count > 0) record(nanoseconds / 1e9, { "rlhf.statistic": statistic });
      }
      delay.reset();
    }),
  ];
  return () => {
    for (const stop of stops) stop();
    delay.disable();
  };
}
