/**
 * @file Models over `lib/graph`: GPT-2, BERT, RoBERTa, DistilBERT and their heads, and what describes them.
 */
export { ACTIVATIONS, type ActivationName } from "./activation-names.js";
export { activation } from "./activations.js";
export { classifierGraph, classifierLogits } from "./classifier.js";
export {
  type BertConfig,
  type DistilBertConfig,
  type EncoderConfig,
  type Gpt2Config,
  MODEL_TYPES,
  type ModelConfig,
  maxTokens,
  type ProblemType,
  parseEncoderConfig,
  parseModelConfig,
  type RobertaConfig,
} from "./config.js";
export { type EncoderInputs, encoderGraph, encoderInputs, encoderStates } from "./encoder.js";
export {
  type EncoderFeeds,
  type EncoderRow,
  encoderFeeds,
  type GroupingOptions,
  groupByLength,
} from "./encoder-feeds.js";
export { type Compute, EncoderRunner, groupingFor } from "./encoder-runner.js";
export { ModelConfigError } from "./errors.js";
export { initParameters } from "./init.js";
export { maskedLmHidden, maskedLmLogits } from "./masked-lm.js";
export {
  FAMILY_PREFIX,
  type Init,
  type ModelTask,
  type ParameterSpec,
  parameterCount,
  parameterSpecs,
} from "./parameters.js";
