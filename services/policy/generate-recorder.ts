/**
 * @file Span and metrics of one generation request, in the front process: `text_completion`, by the generative-AI
 * conventions. Prompt and response text are never recorded.
 */

import { GEN_AI, GEN_AI_PROVIDER, GEN_AI_TEXT_COMPLETION } from "../../lib/telemetry/gen-ai.js";
import { context, type Span, trace } from "../../lib/telemetry/index.js";
import { counter, histogram } from "../../lib/telemetry/instruments.js";
import { errorType, failSpan, SCOPE } from "../../lib/telemetry/tracing.js";
import type { GenerateCall, GenerateReply, SequenceReply } from "./protocol.js";

const durations = histogram("gen_ai.server.request.duration");
const firstTokens = histogram("gen_ai.server.time_to_first_token");
const perToken = histogram("gen_ai.server.time_per_output_token");
const tokens = counter("rlhf.generate.tokens");
const sequences = counter("rlhf.generate.sequences");
const queued = histogram("rlhf.queue.duration");

/** Records one request. */
export class GenerateRecorder {
  readonly #span: Span;
  readonly #attributes: Record<string, string>;
  readonly #started = performance.now();
  readonly #sequences: number;
  #errorType: string | undefined;
  #ended = false;

  constructor(model: string, { options, prompts, seed }: GenerateCall) {
    this.#sequences = prompts.length * (options.numReturnSequences ?? 1);
    this.#attributes = {
      [GEN_AI.operationName]: GEN_AI_TEXT_COMPLETION,
      [GEN_AI.providerName]: GEN_AI_PROVIDER,
      [GEN_AI.requestModel]: model,
    };
    this.#span = trace.getTracer(SCOPE).startSpan(`text_completion ${model}`, {
      attributes: {
        ...this.#attributes,
        [GEN_AI.requestMaxTokens]: options.maxNewTokens,
        [GEN_AI.requestTemperature]: options.temperature,
        [GEN_AI.requestTopK]: options.topK,
        [GEN_AI.requestTopP]: options.topP,
        [GEN_AI.requestSeed]: String(seed),
        "rlhf.prompts": prompts.length,
      },
    });
  }

  /** Runs `work` under the span and records how it ends. */
  async run(work: () => Promise<GenerateReply>): Promise<GenerateReply> {
    try {
      const reply = await context.with(trace.setSpan(context.active(), this.#span), work);
      this.finish(reply);
      return reply;
    } catch (error) {
      this.fail(error);
      throw error;
    } finally {
      this.end();
    }
  }

  /** Notes a request that was answered. */
  finish(reply: GenerateReply): void {
    const { generatedTokens, promptTokens, firstTokenMs, queueMs, weights } = reply;
    this.#span.setAttributes({
      [GEN_AI.usageInputTokens]: promptTokens,
      [GEN_AI.usageOutputTokens]: generatedTokens,
      "rlhf.weight_version": weights.version,
    });
    tokens.add(generatedTokens);
    this.ended(reply.sequences);
    queued.record(queueMs / 1000, { "rlhf.queue": "generate" });
    firstTokens.record(firstTokenMs / 1000, this.#attributes);
    const perSequence = generatedTokens / this.#sequences;
    if (perSequence > 1) {
      const rest = performance.now() - this.#started - firstTokenMs;
      perToken.record(rest / 1000 / (perSequence - 1), this.#attributes);
    }
  }

  /** Notes sequences that have ended: all of a reply, or those of one event of a stream. */
  ended(replies: readonly Pick<SequenceReply, "finish">[]): void {
    for (const { finish } of replies) sequences.add(1, { "rlhf.finish_reason": finish });
  }

  /** Notes a request that failed. */
  fail(error: unknown): void {
    this.#errorType = errorType(error);
    failSpan(this.#span, error);
  }

  /** Ends the span, however the request ended; the second time does nothing. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    const failed = this.#errorType === undefined ? {} : { "error.type": this.#errorType };
    durations.record((performance.now() - this.#started) / 1000, { ...this.#attributes, ...failed });
    this.#span.end();
  }
}
