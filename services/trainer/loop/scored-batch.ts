/**
 * @file A scored batch as plain JSON: kept in a checkpoint when it was generated ahead, and as the record of a batch.
 * Floats travel as base64 of their little-endian bytes, so that what is read back is bit for bit what was written.
 */
import { z } from "zod";
import type { ScoredBatch, ScoredSample } from "./rollout-stage.js";

/** Floats as base64 of their little-endian bytes. */
export const floats = z.codec(z.string(), z.instanceof(Float32Array), {
  decode: (text) => {
    const bytes = Buffer.from(text, "base64");
    const array = new Float32Array(bytes.byteLength / 4);
    new Uint8Array(array.buffer).set(bytes);
    return array;
  },
  encode: (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64"),
});

const ids = z.array(z.number().int());
/** JSON has no NaN; a missing score is null there. */
const score = z.codec(
  z.number().nullable(),
  z.custom<number>((value) => typeof value === "number"),
  {
    decode: (value) => value ?? Number.NaN,
    encode: (value) => (Number.isNaN(value) ? null : value),
  },
);

const sampleSchema = z.object({
  index: z.number().int(),
  question: z.string(),
  answer: z.string(),
  control: z.string(),
  sign: z.union([z.literal(1), z.literal(-1)]),
  prompt: z.string(),
  promptIds: ids,
  seed: z.codec(z.string(), z.bigint(), {
    decode: (text) => BigInt(text),
    encode: (value) => value.toString(),
  }),
  maxNewTokens: z.number().int(),
  responseIds: ids,
  response: z.string(),
  samplerLogprobs: floats,
  finish: z.enum(["eos", "stop", "length"]),
  weightVersion: z.number().int(),
  weightDigest: z.string(),
  server: z.string(),
});

const batchSchema = z.object({
  samples: z.array(
    z.object({
      sample: sampleSchema,
      reward: z.object({
        outcome: z.discriminatedUnion("kind", [
          z.object({ kind: z.literal("scored"), score: z.number() }),
          z.object({ kind: z.literal("failed"), reason: z.string() }),
        ]),
        terms: z.record(z.string(), score),
      }),
      query: ids,
      response: ids,
      refLogprobs: floats,
      refFullLogprobs: floats.optional(),
    }),
  ),
  moments: z.record(z.string(), z.object({ count: z.number(), mean: z.number(), m2: z.number() })),
  seconds: z.object({ generate: z.number(), score: z.number(), reference: z.number() }),
  retries: z.number().int(),
});

/** A batch in JSON's form. */
export type StoredBatch = z.input<typeof batchSchema>;

/** A batch as plain JSON. */
export function encodeBatch(batch: ScoredBatch): StoredBatch {
  const plain = { ...batch, samples: batch.samples.map(withArrays) };
  return z.encode(batchSchema, plain as z.output<typeof batchSchema>);
}

/** The inverse of encodeBatch. Throws ZodError where the JSON is of another form. */
export function decodeBatch(stored: unknown): ScoredBatch {
  return z.decode(batchSchema, stored as StoredBatch);
}

/** Lists of ids may be views of a message; JSON wants arrays. */
function withArrays(scored: ScoredSample) {
  const { sample } = scored;
  return {
    ...scored,
    sample: { ...sample, promptIds: [...sample.promptIds], responseIds: [...sample.responseIds] },
    query: [...scored.query],
    response: [...scored.response],
  };
}
