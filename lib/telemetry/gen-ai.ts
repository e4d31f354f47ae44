/**
 * @file Names of the generative-AI semantic conventions. They are in development upstream and will change: this is the
 * only file that spells them, and the metrics catalogue imports it.
 */

/** Span attributes of one text completion. Prompt and response text are never attributes. */
export const GEN_AI = {
  operationName: "gen_ai.operation.name",
  providerName: "gen_ai.provider.name",
  requestModel: "gen_ai.request.model",
  requestTemperature: "gen_ai.request.temperature",
  requestTopP: "gen_ai.request.top_p",
  requestTopK: "gen_ai.request.top_k",
  requestMaxTokens: "gen_ai.request.max_tokens",
  requestSeed: "gen_ai.request.seed",
  requestStopSequences: "gen_ai.request.stop_sequences",
  responseModel: "gen_ai.response.model",
  responseFinishReasons: "gen_ai.response.finish_reasons",
  usageInputTokens: "gen_ai.usage.input_tokens",
  usageOutputTokens: "gen_ai.usage.output_tokens",
} as const;

/** Value of `gen_ai.operation.name` for what the policy server does. */
export const GEN_AI_TEXT_COMPLETION = "text_completion";

/** Value of `gen_ai.provider.name`: our own, as no convention lists it. */
export const GEN_AI_PROVIDER = "rlhf-mesh";

/** Server metrics, all histograms in seconds, with the bucket bounds that the convention gives. */
export const GEN_AI_METRICS = {
  "gen_ai.server.request.duration": {
    kind: "histogram",
    unit: "s",
    description: "Time from the arrival of a generation request to its last token.",
    attributes: [GEN_AI.operationName, GEN_AI.providerName, GEN_AI.requestModel, "error.type"],
    bounds: [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
  },
  "gen_ai.server.time_to_first_token": {
    kind: "histogram",
    unit: "s",
    description: "Time from the arrival of a generation request to its first token.",
    attributes: [GEN_AI.operationName, GEN_AI.providerName, GEN_AI.requestModel],
    bounds: [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  },
  "gen_ai.server.time_per_output_token": {
    kind: "histogram",
    unit: "s",
    description: "Time per token after the first, averaged over one request.",
    attributes: [GEN_AI.operationName, GEN_AI.providerName, GEN_AI.requestModel],
    bounds: [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
  },
} as const;
