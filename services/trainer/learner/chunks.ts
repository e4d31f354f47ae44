/**
 * @file Elementwise work over flat buffers, one chunk at a time: a chunk of every buffer fits the caches, and the temporary
 * arrays of a program are of one chunk's size, not of the model's.
 */
import type { Engine, EngineTensor } from "../../../lib/engine/index.js";

/** Elements of a chunk: 1 MiB a buffer on cpu (measured best of 64 KiB to 4 MiB); large enough on a device that starting a kernel costs little. */
const CHUNK = { host: 262_144, device: 4_194_304 };

/** Views of one range of several flat buffers. */
export interface Chunk<Name extends string> {
  readonly offset: number;
  readonly size: number;
  readonly views: Readonly<Record<Name, EngineTensor>>;
}

/** Cuts buffers of equal length into chunks. No chunk crosses `boundary`. The caller releases them with releaseChunks. */
export function cutChunks<Name extends string>(
  engine: Engine,
  buffers: Readonly<Record<Name, EngineTensor>>,
  boundary = 0,
): Chunk<Name>[] {
  const names = Object.keys(buffers) as Name[];
  const total = buffers[names[0]].size;
  const step = engine.device === "cpu" ? CHUNK.host : CHUNK.device;
  const chunks: Chunk<Name>[] = [];
  for (let offset = 0; offset < total; ) {
    const limit = offset < boundary ? boundary : total;
    const size = Math.min(step, limit - offset);
    const views = Object.fromEntries(names.map((name) => [name, buffers[name].view([size], offset)]));
    chunks.push({ offset, size, views: views as Record<Name, EngineTensor> });
    offset += size;
  }
  return chunks;
}

/** Releases the views of chunks. */
export function releaseChunks(chunks: readonly Chunk<string>[]): void {
  for (const { views } of chunks) for (const view of Object.values(views)) view.release();
}
