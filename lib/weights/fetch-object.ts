/** @file Reads one object from a transport and verifies it: what a bus means by fetch. */
import { Breather, type TensorSpec } from "../checkpoint/index.js";
import { WeightsCancelledError, WeightsDeadlineError } from "./errors.js";
import type { WeightsManifest } from "./manifest.js";
import { ObjectReader } from "./object-reader.js";
import type { Transport } from "./transport.js";
import { withDeadline } from "./waiting.js";

/** How an object is read. */
export interface FetchObjectOptions {
  /** For the whole object, ms. */
  readonly deadlineMs: number;
  /** Longest wait for the next chunk, ms. */
  readonly stallMs: number;
  /** The parameters of the model: names and shapes must match exactly. */
  readonly expected: readonly TensorSpec[] | undefined;
}

/** The verified tensors of an object. Throws as WeightsBus.fetch does; WeightsCancelledError when `signal` aborts. */
export async function fetchObject(
  transport: Pick<Transport, "read">,
  manifest: WeightsManifest,
  { deadlineMs, stallMs, expected }: FetchObjectOptions,
  signal: AbortSignal,
): Promise<Map<string, Float32Array>> {
  const reader = new ObjectReader(manifest, expected);
  const breather = new Breather();
  const what = `v${manifest.version} (${manifest.object})`;
  const progress = () => `${reader.received} of ${manifest.bytes} bytes were read`;
  const stop = new AbortController(); // ends the transport's reading whatever ended ours
  const cancelled = AbortSignal.any([stop.signal, signal]);
  const cancel = () => new WeightsCancelledError(`fetch of ${what}`);
  const stalled = () =>
    new WeightsDeadlineError(`weights ${what}: nothing arrived for ${stallMs} ms, ${progress()}`, stallMs);
  const late = () =>
    new WeightsDeadlineError(
      `weights ${what}: not fetched within ${deadlineMs} ms, ${progress()}`,
      deadlineMs,
    );
  const read = async () => {
    const chunks = transport.read(manifest, cancelled)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { done, value } = await withDeadline(chunks.next(), stallMs, stalled, cancelled, cancel);
        if (done) break;
        reader.push(value);
        await breather.after(value.length);
      }
    } finally {
      stop.abort();
      // frees what the transport holds; a stalled one is not waited for
      chunks.return?.()?.catch(() => {});
    }
    return reader.finish();
  };
  try {
    return await withDeadline(read(), deadlineMs, late, signal, cancel);
  } finally {
    stop.abort();
  }
}
