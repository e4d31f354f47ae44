/**
 * @file Objects in a NATS object store (ADR-20: chunks under `$O.<bucket>.C.<id>`, then one meta message under
 * `$O.<bucket>.M.<name>`). Written once, with a bounded window of unacknowledged chunks; read through an ordered pull consumer
 * that asks for no more than fits in a few MB. Readable by any NATS tool.
 */
import { createHash } from "node:crypto";
import { DeliverPolicy, type JetStreamClient, type JetStreamManager } from "@nats-io/jetstream";
import { Base64UrlPaddedCodec, type ObjectInfo, type ObjectStore } from "@nats-io/obj";
import { headers, nuid } from "@nats-io/transport-node";
import { Breather } from "../checkpoint/index.js";
import { WeightsCorruptError, WeightsGoneError } from "./errors.js";
import type { WeightsManifest } from "./manifest.js";
import { isWrongRevision } from "./nats-connection.js";

/** Bytes hashed and sent in one turn of the event loop: 2 to 4 ms. */
const SENT_PER_TURN = 1 << 20;

/** A bucket of objects. */
export interface ObjectBucket {
  readonly name: string;
  readonly store: ObjectStore;
  readonly js: JetStreamClient;
  readonly manager: JetStreamManager;
  /** Bytes of a chunk; at most the server's max_payload. */
  readonly chunkBytes: number;
  /** Bytes that may be sent or asked for and not yet handled. */
  readonly windowBytes: number;
}

/** Writes an object unless it is there. When it fails, the chunks sent are purged and nothing can be read. */
export async function putObject(
  bucket: ObjectBucket,
  manifest: WeightsManifest,
  bytes: Iterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<void> {
  const { name: bucketName, store, js, manager, chunkBytes, windowBytes } = bucket;
  const before = await store.info(manifest.object);
  if (before && !before.deleted) {
    if (before.size === manifest.bytes) return;
    throw new WeightsCorruptError({
      object: manifest.object,
      version: manifest.version,
      expected: `an object of ${manifest.bytes} bytes, or none`,
      found: `${before.size} bytes`,
    });
  }
  const id = nuid.next();
  const chunkSubject = `$O.${bucketName}.C.${id}`;
  const hash = createHash("sha256");
  const unanswered = new Set<Promise<unknown>>();
  let failure: unknown;
  let chunks = 0;
  // acknowledgements come many at a time: without a breath, all that they make room for would be hashed and sent in one turn
  const breather = new Breather(SENT_PER_TURN);
  try {
    for (const chunk of inChunks(bytes, chunkBytes)) {
      signal?.throwIfAborted();
      hash.update(chunk);
      const sent = js
        .publish(chunkSubject, chunk)
        .catch((error: unknown) => {
          failure ??= error;
        })
        .finally(() => unanswered.delete(sent));
      unanswered.add(sent);
      chunks++;
      await breather.after(chunk.length);
      while ((unanswered.size + 1) * chunkBytes > windowBytes && failure === undefined)
        await Promise.race(unanswered);
      if (failure !== undefined) throw failure;
    }
    await Promise.all(unanswered);
    if (failure !== undefined) throw failure;
    const meta = {
      name: manifest.object,
      description: `weights of ${manifest.model}`,
      bucket: bucketName,
      nuid: id,
      size: manifest.bytes,
      chunks,
      digest: `SHA-256=${Base64UrlPaddedCodec.encode(hash.digest())}`,
      mtime: new Date().toISOString(),
      deleted: false,
      options: { max_chunk_size: chunkBytes },
      metadata: metadataOf(manifest),
    };
    // expected sequence: nobody may have written this name since we looked
    const metaHeaders = headers();
    metaHeaders.set("Nats-Expected-Last-Subject-Sequence", String(before?.revision ?? 0));
    metaHeaders.set("Nats-Rollup", "sub");
    if (manifest.traceparent) metaHeaders.set("traceparent", manifest.traceparent);
    await js.publish(metaSubject(bucketName, manifest.object), JSON.stringify(meta), {
      headers: metaHeaders,
    });
  } catch (error) {
    await Promise.all(unanswered);
    await manager.streams.purge(streamOf(bucketName), { filter: chunkSubject }).catch(() => {});
    if (isWrongRevision(error)) return; // the same version with the same digest, written by somebody else meanwhile
    throw error;
  }
}

function metadataOf({
  run,
  model,
  version,
  digest,
  dtype,
  parameters,
  publisher,
  traceparent,
}: WeightsManifest) {
  return {
    format: "safetensors",
    run,
    model,
    version: String(version),
    sha256: digest,
    dtype,
    parameters: String(parameters),
    publisher,
    ...(traceparent !== undefined && { traceparent }),
  };
}

/** Fixed-size chunks: views of a piece that covers them, else buffers of their own, as the client may still hold one when the next is made. */
function* inChunks(bytes: Iterable<Uint8Array>, chunkBytes: number): Generator<Uint8Array, void, void> {
  let parts: Uint8Array[] = [];
  let filled = 0;
  for (const piece of bytes) {
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + chunkBytes - filled);
      parts.push(part);
      at += part.length;
      filled += part.length;
      if (filled < chunkBytes) continue;
      yield joined(parts);
      parts = [];
      filled = 0;
    }
  }
  if (filled > 0) yield joined(parts);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return parts.length === 1 ? parts[0] : Buffer.concat(parts);
}

/**
 * The chunks of an object. Throws WeightsGoneError, WeightsCorruptError for a wrong size or a missing chunk, and errors of the
 * client; ends early when `signal` aborts. It does not watch the clock: its caller does.
 */
export async function* readObject(
  bucket: ObjectBucket,
  manifest: WeightsManifest,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const info = await bucket.store.info(manifest.object);
  if (!info || info.deleted) throw new WeightsGoneError(manifest.object, "when opening it");
  const corrupt = (expected: string, found: string) =>
    new WeightsCorruptError({ object: manifest.object, version: manifest.version, expected, found });
  if (info.size !== manifest.bytes) throw corrupt(`${manifest.bytes} bytes`, `${info.size} bytes`);
  const consumer = await bucket.js.consumers.get(streamOf(bucket.name), {
    filter_subjects: `$O.${bucket.name}.C.${info.nuid}`,
    deliver_policy: DeliverPolicy.All,
    inactive_threshold: 60_000,
  });
  if ((await consumer.info(true)).num_pending < info.chunks) {
    const { num_pending: found } = await consumer.info(true);
    consumer.delete().catch(() => {});
    throw corrupt(`${info.chunks} chunks`, `${found}`);
  }
  // by messages, not by bytes: all chunks but the last have one size, and a request by bytes can stall on its remainder
  const messages = await consumer.consume({
    max_messages: Math.max(2, Math.floor(bucket.windowBytes / chunkSize(info))),
    expires: 5000,
  });
  const stop = () => messages.stop();
  signal.addEventListener("abort", stop, { once: true });
  try {
    let chunks = 0;
    for await (const message of messages) {
      chunks++;
      yield message.data;
      if (chunks === info.chunks || signal.aborted) return;
      if (message.info.pending === 0) throw corrupt(`${info.chunks} chunks`, `${chunks}`);
    }
  } finally {
    signal.removeEventListener("abort", stop);
    messages.stop();
    consumer.delete().catch(() => {}); // it would end by itself after a minute
  }
}

function chunkSize(info: ObjectInfo): number {
  return info.options?.max_chunk_size ?? Math.ceil(info.size / Math.max(1, info.chunks));
}

/** Deletes an object with every trace of it. */
export async function deleteObject(bucket: ObjectBucket, object: string): Promise<void> {
  const { deleted } = (await bucket.store.info(object)) ?? {};
  if (deleted === undefined) return;
  await bucket.store.delete(object);
  await bucket.manager.streams.purge(streamOf(bucket.name), { filter: metaSubject(bucket.name, object) });
}

function metaSubject(bucket: string, object: string): string {
  return `$O.${bucket}.M.${Base64UrlPaddedCodec.encode(object)}`;
}

function streamOf(bucket: string): string {
  return `OBJ_${bucket}`;
}
