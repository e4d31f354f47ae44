/**
 * @file A run live over server-sent events. `run`: the summary whenever it changes. `metrics` and `events`: new lines of
 * metrics.jsonl and events.jsonl, with `reset` where those before no longer hold. `records`: which batches are recorded.
 * A client that connects again gets everything anew.
 */

import { join } from "node:path";
import type { SSEStreamingApi } from "hono/streaming";
import { JsonLinesFollower } from "./json-lines.js";
import type { RunDirectories } from "./run-directory.js";
import { recordedSteps } from "./samples.js";

/** Time between two looks at the files; a step of a run takes longer. */
const LOOK_EVERY_MS = 400;
/** When a browser that lost us tries again. */
const RECONNECT_AFTER_MS = 1000;
/** Proxies close connections that say nothing. */
const PING_EVERY_MS = 15_000;

/** Sends a run until the client leaves, `signal` aborts or the run's directory is gone. */
export async function streamRun(
  stream: Pick<SSEStreamingApi, "writeSSE" | "write">,
  runs: RunDirectories,
  id: string,
  signal: AbortSignal,
): Promise<void> {
  const directory = runs.directoryOf(id);
  const followers = (["metrics", "events"] as const).map(
    (event) => [event, new JsonLinesFollower(join(directory, `${event}.jsonl`))] as const,
  );
  const send = (event: string, value: unknown) => stream.writeSSE({ event, data: JSON.stringify(value) });
  const said = new Map<string, string>();
  const sendIfNew = async (event: string, value: unknown) => {
    const data = JSON.stringify(value);
    if (said.get(event) === data) return;
    said.set(event, data);
    await stream.writeSSE({ event, data });
  };
  await stream.writeSSE({ event: "begin", data: "", retry: RECONNECT_AFTER_MS });
  let spoke = Date.now();
  while (!signal.aborted) {
    try {
      await sendIfNew("run", runs.get(id));
    } catch {
      await send("gone", {});
      return;
    }
    let more = false;
    for (const [event, follower] of followers) {
      const lines = await follower.read();
      if (lines.reset || lines.values.length > 0) {
        await send(event, { reset: lines.reset, values: lines.values.map(withoutMetrics) });
      }
      more ||= lines.values.length > 0;
    }
    await sendIfNew("records", recordedSteps(directory));
    if (more) continue; // there may be another chunk
    if (Date.now() - spoke > PING_EVERY_MS) {
      spoke = Date.now();
      await stream.write(": still here\n\n");
    }
    await pause(LOOK_EVERY_MS, signal);
  }
}

/** A step's event without its metrics, which come as lines of metrics.jsonl. */
function withoutMetrics(line: unknown): unknown {
  if ((line as { kind?: unknown } | null)?.kind !== "step") return line;
  const { metrics: _, ...event } = line as Record<string, unknown>;
  return event;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end, { once: true });
  });
}
