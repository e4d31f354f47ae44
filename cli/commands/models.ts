/** @file `rlhf generate`, `score` and `bertscore`: one call to a running server. */
import { readFileSync } from "node:fs";
import { BertScoreService } from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { FinishReason, PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RewardService, ScoreFunction } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { type ConnectionOptions, withClient } from "../connection.js";
import { CliError, EXIT } from "../exit-codes.js";
import { type Output, printable, table } from "../output.js";

/** Options of `rlhf generate`. */
export interface GenerateOptions extends ConnectionOptions {
  readonly address: string;
  readonly maxNewTokens?: number;
  readonly sample?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: number;
}

/** `rlhf generate PROMPT…` */
export async function generate(
  prompts: readonly string[],
  options: GenerateOptions,
  output: Output,
): Promise<void> {
  const texts = textsOf(prompts);
  const reply = await withClient(PolicyService, options.address, options, (client) =>
    client.generate({
      prompts: texts.map((text) => ({ input: { case: "text", value: text } })),
      options: {
        ...given({ maxNewTokens: options.maxNewTokens, temperature: options.temperature }),
        ...given({ topK: options.topK, topP: options.topP, repetitionPenalty: options.repetitionPenalty }),
        ...given({ doSample: options.sample }),
      },
      ...(options.seed === undefined ? {} : { seed: BigInt(options.seed) }),
    }),
  );
  const sequences = reply.sequences.map((sequence) => ({
    prompt: texts[sequence.promptIndex] ?? "",
    text: sequence.text,
    tokens: sequence.tokens?.ids ?? [],
    finish: FinishReason[sequence.finishReason].toLowerCase(),
    seed: sequence.seed,
  }));
  const version = Number(reply.weights?.version ?? 0n);
  output.result(
    { sequences, weights: { version, digest: reply.weights?.digest } },
    sequences.map(({ prompt, text }) => printable(prompt + text)).join("\n---\n"),
  );
}

/** `rlhf score TEXT…` */
export async function score(
  args: readonly string[],
  options: ConnectionOptions & {
    address: string;
    label?: string;
    function?: "softmax" | "sigmoid" | "none";
    truncate?: boolean;
  },
  output: Output,
): Promise<void> {
  const texts = textsOf(args);
  const functions = {
    softmax: ScoreFunction.SOFTMAX,
    sigmoid: ScoreFunction.SIGMOID,
    none: ScoreFunction.NONE,
  };
  const reply = await withClient(RewardService, options.address, options, (client) =>
    client.score({
      texts: [...texts],
      ...given({ label: options.label, truncate: options.truncate }),
      ...(options.function ? { function: functions[options.function] } : {}),
    }),
  );
  const results = reply.results.map((result, i) => ({
    text: texts[i],
    reward: result.reward,
    scores: Object.fromEntries(result.scores.map(({ label, score: value }) => [label, value])),
    tokens: result.tokenCount,
    truncated: result.truncated,
  }));
  output.result(
    { results, label: reply.label, model: reply.model },
    table([
      [`reward (${reply.label})`, "tokens", "text"],
      ...results.map((r) => [r.reward?.toFixed(4) ?? "–", String(r.tokens), short(r.text ?? "")]),
    ]),
  );
}

/** `rlhf bertscore --candidate … --reference …` */
export async function bertscore(
  options: ConnectionOptions & {
    address: string;
    candidate: readonly string[];
    reference: readonly string[];
    idf?: boolean;
    rescale?: boolean;
    layer?: number;
  },
  output: Output,
): Promise<void> {
  const { candidate, reference } = options;
  if (candidate.length === 0 || candidate.length !== reference.length) {
    throw new CliError(
      `${candidate.length} candidates and ${reference.length} references: give one --reference for each --candidate`,
      EXIT.usage,
    );
  }
  const reply = await withClient(BertScoreService, options.address, options, (client) =>
    client.score({
      pairs: candidate.map((text, i) => ({ candidate: text, references: [reference[i] as string] })),
      options: given({ idf: options.idf, rescale: options.rescale, layer: options.layer }),
    }),
  );
  const results = reply.results.map(({ score: s }, i) => ({
    candidate: candidate[i],
    precision: s?.precision,
    recall: s?.recall,
    f1: s?.f1,
  }));
  output.result(
    { results, hash: reply.hash },
    `${table([
      ["P", "R", "F1", "candidate"],
      ...results.map((r) => [
        ...[r.precision, r.recall, r.f1].map((x) => x?.toFixed(6) ?? "–"),
        short(r.candidate ?? ""),
      ]),
    ])}\n${reply.hash}`,
  );
}

/** The arguments, or the lines of standard input where there are none or a lone "-". */
function textsOf(args: readonly string[]): readonly string[] {
  if (args.length > 0 && !(args.length === 1 && args[0] === "-")) return args;
  const lines = readFileSync(0, "utf8")
    .split("\n")
    .filter((line) => line !== "");
  if (lines.length === 0)
    throw new CliError("no text given: as arguments, or one a line on standard input", EXIT.usage);
  return lines;
}

/** The entries that were given. */
function given<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function short(text: string): string {
  const line = printable(text.replace(/\s+/g, " "));
  return line.length <= 80 ? line : `${line.slice(0, 79)}…`;
}
