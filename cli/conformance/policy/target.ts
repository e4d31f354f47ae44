/**
 * @file A policy server under test: proto/rlhf/policy/v1, and the requests that its checks are made of. Works with any vocabulary:
 * the ids that are sent come from what the server itself generated.
 */
import {
  FinishReason,
  type GenerateRequest,
  type GenerateResponse,
  type GetInfoResponse,
  PolicyService,
  type Sequence,
} from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { ElementType, type Tensor } from "../../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { must, needs } from "../check.js";
import type { Described } from "../info.js";
import { type Subject, Target, type TargetOptions } from "../target.js";

/** How far the sampler's log-probabilities and those of LogProbs may be apart, in nats. */
export const SAMPLER = 1e-3;
/** How far log-probabilities of the same ids may be apart whatever shares the batch, in nats. */
export const SAME = 1e-4;
/** Tokens of each sequence of measured work, and what their prompt may take beside them. */
const WORK_TOKENS = 64;
const WORK_PROMPT_TOKENS = 16;

/** Prompts of several lengths. */
const PROMPTS = [
  "question: when does the shop open?\nanswer:",
  "a",
  "The library is closed on Sundays and on public holidays, but",
  "Thank you",
] as const;

/** The prompt of checks that need one with a continuation worth looking at. */
export const FIRST = PROMPTS[0];

/** Fields of a GenerateRequest, as the client takes them. */
export type Init = { [K in keyof GenerateRequest]?: unknown };
/** GenerationOptions, as the client takes them. */
export type Options = Readonly<Record<string, unknown>>;

let made = 0;

/** What the checks that fit every service must know of this one. */
const subjectOf = (info: GetInfoResponse | undefined): Subject => ({
  desc: PolicyService,
  probe: () => ({ method: "generate", request: generation(["a"], { maxNewTokens: 2 }) }),
  work: (size) => ({ method: "generate", request: longGeneration(size, workTokens(info)) }),
  itemsLimit: "max_prompts",
  queueLimit: "max_queue_sequences",
  runningLimit: "max_rows",
  refused: () => ({ method: "generate", request: generation(["a"], { doSample: true, topP: 2 }) }),
});

/** Tokens of measured work that the model has room for. */
export function workTokens(info: GetInfoResponse | undefined): number {
  const most = info?.model?.maxTokens ?? 0;
  return most > 0 ? Math.max(1, Math.min(WORK_TOKENS, most - WORK_PROMPT_TOKENS)) : WORK_TOKENS;
}

/** A policy server under test. */
export class PolicyTarget extends Target implements Described {
  constructor(
    address: string,
    options: TargetOptions,
    readonly info: GetInfoResponse | undefined,
  ) {
    super(address, subjectOf(info), options, info?.server);
  }

  get policy() {
    return this.client(PolicyService);
  }

  /** Prompts of several lengths, as many as one call may have. */
  get prompts(): string[] {
    return this.few(PROMPTS);
  }

  /** Generates, and fails the check where the reply is not whole. */
  async generate(prompts: readonly string[], options: Options, more: Init = {}): Promise<GenerateResponse> {
    const reply = await this.policy.generate({ ...generation(prompts, options), ...more } as never);
    const each = Number(options.numReturnSequences ?? 1);
    must(
      reply.sequences.length === prompts.length * each,
      `${prompts.length} prompts with ${each} sequences each gave ${reply.sequences.length} sequences`,
    );
    for (const [i, sequence] of reply.sequences.entries()) {
      const place = [sequence.promptIndex, sequence.returnIndex];
      const expected = [Math.floor(i / each), i % each];
      must(
        place.join() === expected.join(),
        `sequences[${i}] is return ${place[1]} of prompt ${place[0]}; expected return ${expected[1]} of prompt ${expected[0]}`,
      );
    }
    return reply;
  }

  /** Generates one sequence after the first prompt. */
  async continue(options: Options, more: Init = {}): Promise<Sequence> {
    return (await this.generate([FIRST], options, more)).sequences[0] as Sequence;
  }
}

/** Sampling with an option set. */
export const sampling = (options: Options) => ({ options: { doSample: true, maxNewTokens: 2, ...options } });
/** The most probable token each time. */
export const greedy = (maxNewTokens: number) => ({ maxNewTokens, doSample: false });
/** Sampling from the whole distribution, flattened, so that seeds show. */
export const sampled = (maxNewTokens: number) => ({
  maxNewTokens,
  doSample: true,
  topK: 0,
  topP: 1,
  temperature: 1.5,
});

/** A request that continues texts. */
export function generation(prompts: readonly string[], options: Options) {
  return { prompts: prompts.map((value) => ({ input: { case: "text" as const, value } })), options };
}

/** A request for sequences of exactly so many tokens, never the same twice. */
export function longGeneration(size: number, maxNewTokens: number) {
  const prompts = Array.from({ length: size }, (_, i) => `${++made} ${i}`);
  return {
    ...generation(prompts, { maxNewTokens, ignoreEos: true, doSample: true }),
    seed: BigInt(made),
  };
}

/** Ids that were generated. */
export const idsOf = ({ tokens }: Sequence): readonly number[] => tokens?.ids ?? [];

/** The third id that greedy generation gives, unless it came before. */
export async function thirdToken(target: PolicyTarget): Promise<number> {
  const ids = idsOf(await target.continue({ ...greedy(8), ignoreEos: true }));
  const at = ids.findIndex((id, i) => i >= 2 && ids.indexOf(id) === i);
  needs(at >= 0, "the greedy continuation repeats its first ids");
  return ids[at] as number;
}

/** Sequences of ids: each prompt with what follows it. */
export async function wholeSequences(target: PolicyTarget): Promise<number[][]> {
  const { sequences } = await target.generate(target.prompts, { ...greedy(10), ignoreEos: true });
  return sequences.map((sequence) => [...(sequence.promptTokens?.ids ?? []), ...idsOf(sequence)]);
}

/** Fails the check unless a sequence has all that it must have. */
export function mustBeWhole(target: PolicyTarget, sequence: Sequence, where: string, most: number): void {
  const ids = idsOf(sequence);
  const vocab = target.info?.model?.vocabSize ?? 2 ** 32;
  must(ids.length > 0 && ids.length <= most, `${where} has ${ids.length} ids; max_new_tokens is ${most}`);
  must(
    ids.every((id) => id < vocab),
    `${where} has an id outside the vocabulary of ${vocab}`,
  );
  must((sequence.promptTokens?.ids.length ?? 0) > 0, `${where}.prompt_tokens is empty`);
  const logprobs = floats(sequence.logprobs, [ids.length], `${where}.logprobs`);
  must(
    logprobs.every((value) => Number.isFinite(value) && value <= SAME),
    `${where}.logprobs has a value above 0 or not finite`,
  );
  const { finishReason } = sequence;
  must(finishReason !== FinishReason.UNSPECIFIED, `${where}.finish_reason is not set`);
  must(
    finishReason !== FinishReason.LENGTH || ids.length === most,
    `${where}.finish_reason is LENGTH at ${ids.length} of ${most} ids`,
  );
}

/** Fails the check unless two sequences of ids are the same. */
export function mustBeSame(actual: readonly number[], expected: readonly number[], what: string): void {
  must(
    actual.join(" ") === expected.join(" "),
    `${what} differ: ${actual.join(" ") || "none"} and ${expected.join(" ") || "none"}`,
  );
}

/** The elements of a float32 tensor of a shape. */
export function floats(tensor: Tensor | undefined, shape: readonly number[], what: string): Float32Array {
  const is = tensor?.shape.map(Number) ?? [];
  must(tensor !== undefined, `${what} is not set`);
  must(
    tensor.elementType === ElementType.FLOAT32,
    `${what} is ${ElementType[tensor.elementType]}, not FLOAT32`,
  );
  must(is.join() === shape.join(), `${what} has shape [${is.join(", ")}], not [${shape.join(", ")}]`);
  const count = shape.reduce((product, size) => product * size, 1);
  must(
    tensor.data.byteLength === 4 * count,
    `${what} has ${tensor.data.byteLength} bytes for ${count} elements`,
  );
  const view = new DataView(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  return Float32Array.from({ length: count }, (_, i) => view.getFloat32(4 * i, true));
}
