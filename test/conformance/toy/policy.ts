/** @file A toy policy server over the toy language model, and everything that the contract asks of a real one. */
import { randomInt } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import {
  FinishReason,
  type GenerateRequest,
  GenerateResponseSchema,
  GenerateStreamResponseSchema,
  GetInfoResponseSchema,
  type LogProbsRequest,
  LogProbsResponseSchema,
  PolicyService,
  type SequenceSchema,
} from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { type BaseToy, baseToy, DIGEST, serverInfo } from "./base.js";
import { randomFrom } from "./hash.js";
import {
  type Continuation,
  decode,
  EOS,
  encode,
  generate,
  logitsAfter,
  logSoftmax,
  MOST_TOKENS,
  type Rules,
  rulesOf,
  VOCAB,
} from "./language-model.js";
import { Checks, Refusal } from "./refusal.js";
import type { Methods } from "./server.js";
import { floats } from "./tensors.js";

const MS_PER_STEP = 3;
const FINISH = { eos: FinishReason.EOS, stop: FinishReason.STOP, length: FinishReason.LENGTH };

/** One sequence before it is generated. */
export interface Start {
  readonly promptIndex: number;
  readonly returnIndex: number;
  readonly prompt: readonly number[];
  readonly seed: bigint;
  readonly ownSeed: boolean;
  /** Length of the longest prompt of the request. */
  readonly longest: number;
}

/** A toy policy server and what a mutation may change of it. */
export interface PolicyToy extends BaseToy {
  readonly methods: Methods<typeof PolicyService.method>;
  readonly most: { prompts: number; textBytes: number; sequences: number; stopStrings: number };
  rules: (request: GenerateRequest) => Rules;
  /** Ids of a prompt's text. */
  encode: (text: string) => number[];
  /** Ids that a prompt of ids is read as. */
  read: (ids: readonly number[]) => number[];
  /** The random numbers of a sequence. */
  random: (start: Start) => () => number;
  continue: (start: Start, rules: Rules) => Continuation;
  /** Log-probabilities of all tokens after each prefix of a sequence. */
  score: (ids: readonly number[], batch: readonly (readonly number[])[]) => number[][];
}

/** Makes one that keeps the contract. */
export function policyToy(): PolicyToy {
  const weights = { version: 0n, digest: DIGEST };
  const methods: PolicyToy["methods"] = {
    generate: async (request, { signal }) => {
      checkGenerate(toy, request, "");
      const rules = toy.rules(request);
      const starts = startsOf(toy, request);
      await toy.queue.run(starts.length, MS_PER_STEP * rules.maxNewTokens, signal);
      const sequences = starts.map((start) => sequence(start, toy.continue(start, rules)));
      return create(GenerateResponseSchema, { sequences, weights });
    },
    async *generateStream({ request }, { signal }) {
      if (!request) throw new Refusal(status.INVALID_ARGUMENT, "request: is missing", "BAD_FIELD");
      checkGenerate(toy, request, "request.");
      const rules = toy.rules(request);
      const running = startsOf(toy, request).map((start) => ({ start, end: toy.continue(start, rules) }));
      const steps = rules.maxNewTokens;
      for await (const step of toy.queue.inSteps(running.length, MS_PER_STEP * steps, steps, signal)) {
        for (const { start, end } of running) {
          const id = end.ids[step];
          if (id === undefined) continue;
          const { promptIndex, returnIndex } = start;
          const token = {
            promptIndex,
            returnIndex,
            id,
            text: decode([id]),
            logprob: end.logprobs[step] as number,
          };
          yield create(GenerateStreamResponseSchema, { event: { case: "token", value: token }, weights });
          if (step + 1 < end.ids.length) continue;
          const whole = { case: "sequence" as const, value: sequence(start, end) };
          yield create(GenerateStreamResponseSchema, { event: whole, weights });
        }
      }
    },
    logProbs: async (request, { signal }) => {
      checkLogProbs(toy, request);
      demand(request);
      await toy.queue.run(request.sequences.length, MS_PER_STEP, signal);
      const batch = request.sequences.map(({ tokens }) => tokens?.ids ?? []);
      const results = request.sequences.map(({ start = 1 }, i) => {
        const ids = batch[i] as number[];
        const rows = toy.score(ids, batch).slice(start - 1);
        return {
          logprobs: floats(rows.map((row, t) => row[ids[start + t] as number] as number)),
          ...(request.entropy && { entropy: floats(rows.map(entropy)) }),
          ...(request.fullDistribution && { distribution: floats(rows.flat(), [rows.length, VOCAB]) }),
        };
      });
      return create(LogProbsResponseSchema, { results, weights });
    },
    getInfo: async () =>
      create(GetInfoResponseSchema, {
        model: { name: "toy-lm", weights, maxTokens: MOST_TOKENS, vocabSize: VOCAB },
        pinned: true,
        eosTokenIds: [EOS],
        defaultOptions: { maxNewTokens: 20 },
        server: serverInfo(toy),
      }),
  };
  const limits = {
    max_prompts: 16,
    max_sequences: 32,
    max_text_bytes: 1024,
    max_stop_strings: 4,
    max_rows: 16,
    max_queue_sequences: 64,
  };
  const toy: PolicyToy = Object.assign(baseToy(PolicyService, methods, limits), {
    methods,
    most: { prompts: 16, textBytes: 1024, sequences: 32, stopStrings: 4 },
    rules: ({ options }: GenerateRequest) => rulesOf(options),
    encode,
    read: (ids: readonly number[]) => [...ids],
    random: ({ seed, ownSeed, promptIndex, returnIndex }: Start) =>
      randomFrom(Number(seed % 2n ** 31n), ownSeed ? -1 : promptIndex, returnIndex),
    continue: (start: Start, rules: Rules) => generate(start.prompt, rules, toy.random(start), logitsAfter),
    score: (ids: readonly number[]) =>
      ids.slice(1).map((_, t) => logSoftmax(logitsAfter(ids.slice(0, t + 1)))),
  });
  return toy;
}

function startsOf(toy: PolicyToy, request: GenerateRequest): Start[] {
  demand(request);
  const prompts = request.prompts.map(({ input }) =>
    input.case === "tokens" ? toy.read(input.value.ids) : toy.encode(input.value as string),
  );
  const seed = request.seed ?? BigInt(randomInt(2 ** 31));
  const longest = Math.max(...prompts.map(({ length }) => length));
  return prompts.flatMap((prompt, promptIndex) => {
    const own = request.prompts[promptIndex]?.seed;
    const each = { promptIndex, prompt, seed: own ?? seed, ownSeed: own !== undefined, longest };
    const count = request.options?.numReturnSequences ?? 1;
    return Array.from({ length: count }, (_, returnIndex) => ({ ...each, returnIndex }));
  });
}

function sequence(
  start: Start,
  { ids, logprobs, ended }: Continuation,
): MessageInitShape<typeof SequenceSchema> {
  return {
    promptIndex: start.promptIndex,
    returnIndex: start.returnIndex,
    tokens: { ids },
    text: decode(ids),
    logprobs: floats(logprobs),
    finishReason: FINISH[ended],
    promptTokens: { ids: [...start.prompt] },
    seed: start.seed,
  };
}

function demand({
  minWeightVersion,
  weightVersion,
}: {
  minWeightVersion?: bigint;
  weightVersion?: bigint;
}): void {
  if ((minWeightVersion ?? 0n) <= 0n && (weightVersion ?? 0n) === 0n) return;
  throw new Refusal(status.FAILED_PRECONDITION, "this server holds version 0", "VERSION_NOT_HELD");
}

function checkGenerate(toy: PolicyToy, { prompts, options }: GenerateRequest, path: string): void {
  const { most } = toy;
  const checks = new Checks();
  const option = (holds: boolean, name: string, is: unknown) =>
    checks.must(holds, `${path}options.${name}`, `is ${is}`);
  checks.must(
    prompts.length > 0 && prompts.length <= most.prompts,
    `${path}prompts`,
    `has ${prompts.length} items`,
  );
  for (const [i, { input }] of prompts.entries()) {
    const field = `${path}prompts[${i}]`;
    checks.must(input.case !== undefined, field, "has neither text nor tokens");
    const text = input.case === "text" ? input.value : "";
    checks.must(
      Buffer.byteLength(text) <= most.textBytes,
      `${field}.text`,
      `has more than ${most.textBytes} bytes`,
    );
    const ids = input.case === "tokens" ? input.value.ids : toy.encode(text);
    const at = ids.findIndex((id) => id >= VOCAB);
    checks.must(at < 0, `${field}.tokens.ids[${at}]`, `is ${ids[at]}`);
    const total = ids.length + (options?.maxNewTokens ?? 20);
    checks.must(total <= MOST_TOKENS, field, `makes ${total} tokens`);
  }
  option((options?.maxNewTokens ?? 1) > 0, "max_new_tokens", options?.maxNewTokens);
  option((options?.temperature ?? 1) > 0, "temperature", options?.temperature);
  option((options?.topK ?? 0) >= 0, "top_k", options?.topK);
  option((options?.topP ?? 1) > 0 && (options?.topP ?? 1) <= 1, "top_p", options?.topP);
  option((options?.repetitionPenalty ?? 1) > 0, "repetition_penalty", options?.repetitionPenalty);
  const count = options?.numReturnSequences ?? 1;
  option(count === 1 || (options?.doSample ?? false), "num_return_sequences", `${count} without do_sample`);
  option(count * prompts.length <= most.sequences, "num_return_sequences", count);
  const stops = options?.stopStrings.length ?? 0;
  option(stops <= most.stopStrings, "stop_strings", `${stops} strings`);
  checks.done(toy.counts);
}

function checkLogProbs(toy: PolicyToy, { sequences }: LogProbsRequest): void {
  const checks = new Checks();
  const count = sequences.length;
  checks.must(count > 0 && count <= toy.most.prompts, "sequences", `has ${count} items`);
  for (const [i, { tokens, start = 1 }] of sequences.entries()) {
    const ids = tokens?.ids ?? [];
    checks.must(ids.length >= 2, `sequences[${i}].tokens.ids`, `has ${ids.length} ids`);
    const at = ids.findIndex((id) => id >= VOCAB);
    checks.must(at < 0, `sequences[${i}].tokens.ids[${at}]`, `is ${ids[at]}`);
    const inside = start >= 1 && start < Math.max(2, ids.length);
    checks.must(inside, `sequences[${i}].start`, `is ${start}`);
  }
  checks.done(toy.counts);
}

/** Entropy of log-probabilities, in nats. */
export function entropy(logprobs: readonly number[]): number {
  return -logprobs.reduce((sum, logprob) => sum + Math.exp(logprob) * logprob, 0);
}
