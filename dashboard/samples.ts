/**
 * @file The samples of a recorded batch, `records/batch-NNNNNNNN.json`, as the sample table shows them.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { NotFoundError } from "./errors.js";

const floats = z.string().transform((text) => {
  const bytes = Buffer.from(text, "base64");
  return Array.from({ length: Math.floor(bytes.length / 4) }, (_, i) => bytes.readFloatLE(4 * i));
});

const recordSchema = z.looseObject({
  step: z.number(),
  batch: z.looseObject({
    samples: z.array(
      z.looseObject({
        sample: z.looseObject({
          question: z.string(),
          answer: z.string(),
          control: z.string(),
          prompt: z.string(),
          response: z.string(),
          finish: z.string(),
          weightVersion: z.number(),
          server: z.string(),
        }),
        reward: z.looseObject({
          outcome: z.union([
            z.looseObject({ kind: z.literal("scored"), score: z.number() }),
            z.looseObject({ kind: z.literal("failed"), reason: z.string() }),
          ]),
          terms: z.record(z.string(), z.number().nullable()),
        }),
      }),
    ),
  }),
  /** Absent in records of trainers that did not keep it. */
  experience: z
    .array(
      z
        .looseObject({ tokens: z.array(z.string()), advantages: floats, values: floats, kl: floats })
        .nullable(),
    )
    .optional(),
});

/** A token that was trained on. */
export interface SampleToken {
  readonly text: string;
  readonly advantage: number;
  readonly value: number;
  readonly kl: number;
}

/** One row of the table. */
export interface SampleRow {
  readonly question: string;
  /** Reference answer. */
  readonly answer: string;
  readonly control: string;
  readonly prompt: string;
  readonly response: string;
  readonly finish: string;
  readonly weightVersion: number;
  readonly server: string;
  /** Composed reward; null where it failed. */
  readonly reward: number | null;
  /** Why it has none. */
  readonly failure: string;
  /** Raw score by term; null where it failed. */
  readonly terms: Readonly<Record<string, number | null>>;
  /** Empty where the record has none. */
  readonly tokens: readonly SampleToken[];
}

const NAME = /^batch-(\d{8,})\.json$/;

/** Steps of which a batch is recorded, rising. */
export function recordedSteps(directory: string): number[] {
  let names: string[];
  try {
    names = readdirSync(join(directory, "records"));
  } catch {
    return []; // none was kept
  }
  return names
    .map((name) => Number(NAME.exec(name)?.[1]))
    .filter((step) => !Number.isNaN(step))
    .sort((a, b) => a - b);
}

/** The samples of one batch. Throws NotFoundError where it was not recorded. */
export function readSamples(directory: string, step: number): SampleRow[] {
  const path = join(directory, "records", `batch-${String(step).padStart(8, "0")}.json`);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new NotFoundError(
      `Batch ${step} was not recorded; \`record: true\` in the run file keeps batches.`,
    );
  }
  const { batch, experience } = recordSchema.parse(JSON.parse(text));
  return batch.samples.map(({ sample, reward }, i) => {
    const { question, answer, control, prompt, response, finish, weightVersion, server } = sample;
    const { outcome, terms } = reward;
    const learned = experience?.[i];
    return {
      ...{ question, answer, control, prompt, response, finish, weightVersion, server, terms },
      reward: outcome.kind === "scored" ? outcome.score : null,
      failure: outcome.kind === "failed" ? outcome.reason : "",
      tokens: (learned?.tokens ?? []).map((text, t) => ({
        text,
        advantage: learned?.advantages[t] ?? 0,
        value: learned?.values[t] ?? 0,
        kl: learned?.kl[t] ?? 0,
      })),
    };
  });
}
