/**
 * @file Generate inside the worker: prompts to ids, ids to sequences for the decoder, and what comes back to text. Checks
 * what needs the tokenizer; everything else was checked by the front process.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { WorkerCall } from "../../lib/rpc/serve-worker.js";
import { Validator } from "../../lib/rpc/validate.js";
import type { Tokenizer } from "../../lib/tokenizer/index.js";
import type { Decoder } from "./generation/decoder.js";
import type { TokenStep } from "./generation/generate-job.js";
import type { Sequence, SequenceSpec } from "./generation/sequence.js";
import type { WeightsIdentity } from "./model/weight-store.js";
import type { GenerateCall, GenerateEvent, GenerateReply, SequenceReply, TokenEvent } from "./protocol.js";
import {
  type GenerationDefaults,
  type ModelBounds,
  resolveMaxNewTokens,
  resolveOptions,
  resolveReturnSequences,
} from "./sampling/options.js";
import type { TokenBytes } from "./sampling/stop-rules.js";
import { TextPieces } from "./text-pieces.js";

/** What generating needs. */
export interface GenerateParts {
  readonly decoder: Decoder;
  readonly tokenizer: Tokenizer;
  readonly tokenBytes: TokenBytes;
  readonly defaults: GenerationDefaults;
  readonly bounds: ModelBounds;
}

/** How long tokenizing may keep the decoder waiting, in milliseconds. */
const SLICE_MS = 10;

/** Answers one Generate call. Rejects as the decoder does, and with InvalidFieldError. */
export async function generate(
  parts: GenerateParts,
  call: GenerateCall,
  { signal, deadline, emit }: WorkerCall,
): Promise<GenerateReply> {
  const started = performance.now();
  const promptIds = await encodePrompts(parts, call, signal);
  const tokenizeMs = performance.now() - started;
  checkLengths(parts, call, promptIds);
  const stream = call.stream ? new EventStream(parts, (event) => emit(event)) : undefined;
  const outcome = await parts.decoder.generate({
    sequences: sequenceSpecs(parts, call, promptIds),
    demand: call.demand,
    signal,
    deadline,
    onTokens: stream && ((steps, weights) => stream.push(steps, weights)),
  });
  const { weights, queueMs, modelMs, firstTokenMs, sequences } = outcome;
  return {
    sequences: call.stream ? [] : sequences.map((sequence) => sequenceReply(parts, sequence)),
    weights,
    queueMs,
    tokenizeMs,
    modelMs,
    firstTokenMs: firstTokenMs + tokenizeMs,
    promptTokens: promptIds.reduce((sum, ids) => sum + ids.length, 0),
    generatedTokens: sequences.reduce((sum, { history }) => sum + history.generated, 0),
  };
}

async function encodePrompts(
  { tokenizer }: GenerateParts,
  { prompts }: GenerateCall,
  signal: AbortSignal,
): Promise<number[][]> {
  const all: number[][] = [];
  let turn = performance.now();
  for (const { text, ids } of prompts) {
    all.push(ids ?? tokenizer.encode(text ?? "", { addSpecialTokens: false }).ids);
    if (performance.now() - turn < SLICE_MS) continue;
    await nextTurn();
    signal.throwIfAborted();
    turn = performance.now();
  }
  return all;
}

/** Refuses prompts that are empty, or too long for what is to be generated. */
function checkLengths(
  { defaults, bounds }: GenerateParts,
  { options }: GenerateCall,
  prompts: readonly number[][],
): void {
  const check = new Validator();
  for (const [i, ids] of prompts.entries()) {
    const field = `prompts[${i}]`;
    check.require(ids.length > 0, field, "has 0 tokens; accepted: at least 1");
    const added = Math.max(1, resolveMaxNewTokens(options, defaults, ids.length, bounds.maxTokens));
    const total = ids.length + added;
    check.require(
      total <= bounds.maxTokens,
      field,
      `has ${ids.length} tokens, and ${added} are to be generated; accepted: at most ${bounds.maxTokens} together`,
      { reason: "INPUT_TOO_LONG", facts: { max: String(bounds.maxTokens), actual: String(total) } },
    );
  }
  check.check();
}

function sequenceSpecs(
  { defaults, bounds }: GenerateParts,
  { prompts, options, seed }: GenerateCall,
  promptIds: readonly number[][],
): SequenceSpec[] {
  const count = resolveReturnSequences(options, defaults);
  return promptIds.flatMap((ids, promptIndex) => {
    const resolved = resolveOptions(options, defaults, ids.length, bounds);
    const own = prompts[promptIndex].seed;
    return Array.from({ length: count }, (_, returnIndex) => ({
      promptIndex,
      returnIndex,
      promptIds: ids,
      options: resolved,
      seed: own ?? seed,
      ownSeed: own !== undefined,
    }));
  });
}

function sequenceReply(
  { tokenizer }: GenerateParts,
  { spec, generatedIds, logprobs, finish }: Sequence,
): SequenceReply {
  return {
    promptIndex: spec.promptIndex,
    returnIndex: spec.returnIndex,
    ids: generatedIds,
    text: tokenizer.decode(generatedIds),
    logprobs: Float32Array.from(logprobs),
    finish: finish!,
    promptIds: [...spec.promptIds],
    seed: spec.seed,
  };
}

/** Turns what each run gave a request into one event. */
class EventStream {
  readonly #pieces = new Map<Sequence, TextPieces>();

  constructor(
    private readonly parts: GenerateParts,
    private readonly emit: (event: GenerateEvent) => void,
  ) {}

  push(steps: readonly TokenStep[], { version, digest }: WeightsIdentity): void {
    const tokens: TokenEvent[] = [];
    const ended: SequenceReply[] = [];
    for (const { sequence, id, logprob } of steps) {
      let pieces = this.#pieces.get(sequence);
      if (!pieces) {
        pieces = new TextPieces(this.parts.tokenizer, this.parts.tokenBytes);
        this.#pieces.set(sequence, pieces);
      }
      const { promptIndex, returnIndex } = sequence.spec;
      tokens.push({ promptIndex, returnIndex, id, text: pieces.next(id), logprob });
      if (sequence.finish !== undefined) ended.push(sequenceReply(this.parts, sequence));
    }
    this.emit({ tokens, ended, weights: { version, digest } });
  }
}
