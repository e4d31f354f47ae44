/**
 * @file One encoder on several engines of one thread each, side by side: the bits of a row are the same whatever is run with it and before it.
 * With several threads ONNX Runtime divides a small product's columns among them by the size of the batch, and adds up in another order; with
 * one, and rows put together as RunnerGrouping.invariant says, each row of a batch is computed as any other.
 */
import type { EncoderConfig } from "./config.js";
import type { EncoderRow } from "./encoder-feeds.js";
import {
  type Compute,
  type ComputeTensor,
  type Encoder,
  EncoderRunner,
  groupingFor,
} from "./encoder-runner.js";

/**
 * An encoder over engines: one as fast as it can be, or with `invariant` one whose numbers do not depend on what is run together; then every
 * engine must have one thread.
 */
export function encoderOn<T extends ComputeTensor>(
  engines: readonly (Compute<T> & { readonly device: string })[],
  config: EncoderConfig,
  weights: ReadonlyMap<string, Float32Array>,
  invariant = false,
): Encoder {
  const encoders = engines.map((engine) => {
    const grouping = groupingFor(engine.device);
    return new EncoderRunner(
      engine,
      config,
      weights,
      invariant ? { ...grouping, invariant: true } : grouping,
    );
  });
  return invariant ? new ParallelEncoder(encoders) : (encoders[0] as Encoder);
}

/** Several encoders of the same weights. */
export class ParallelEncoder implements Encoder {
  /** `encoders` compute the same; each runs one part of the rows at a time. */
  constructor(private readonly encoders: readonly Encoder[]) {}

  classify(rows: readonly EncoderRow[]): Promise<Float32Array[]> {
    return this.#divided(rows, (encoder, part) => encoder.classify(part));
  }

  hiddenStates(rows: readonly EncoderRow[], layers: readonly number[]): Promise<Float32Array[][]> {
    return this.#divided(rows, (encoder, part) => encoder.hiddenStates(part, layers));
  }

  async release(): Promise<void> {
    await Promise.all(this.encoders.map((encoder) => encoder.release()));
  }

  async #divided<R>(
    rows: readonly EncoderRow[],
    run: (encoder: Encoder, part: readonly EncoderRow[]) => Promise<R[]>,
  ): Promise<R[]> {
    const results: R[] = new Array(rows.length);
    const parts = cutByTokens(
      rows.map(({ ids }) => ids.length),
      this.encoders.length,
    );
    await Promise.all(
      parts.map(async (part, i) => {
        const outputs = await run(
          this.encoders[i],
          part.map((row) => rows[row]),
        );
        for (const [n, row] of part.entries()) results[row] = outputs[n];
      }),
    );
    return results;
  }
}

/** Cuts row indices, longest first, into at most `count` parts of about as many tokens each; none is empty. */
export function cutByTokens(lengths: readonly number[], count: number): number[][] {
  const order = lengths.map((_, row) => row).sort((a, b) => lengths[b] - lengths[a] || a - b);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const parts: number[][] = [];
  let before = 0; // tokens of the rows before this one
  for (const row of order) {
    if (parts.length === 0 || (parts.length < count && before >= (total * parts.length) / count))
      parts.push([]);
    parts[parts.length - 1].push(row);
    before += lengths[row];
  }
  return parts;
}
