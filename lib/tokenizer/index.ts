/**
 * @file Tokenizers: loaded from a model directory, or trained from texts.
 */
export { TokenizerError } from "./errors.js";
export { loadTokenizer } from "./load.js";
export { createTokenizer, type TokenizerSettings } from "./tokenizer.js";
export {
  type TokenizerFiles,
  type TrainOptions,
  tokenizerFromFiles,
  trainBpe,
  trainWordPiece,
} from "./train.js";
export type {
  DecodeOptions,
  EncodeOptions,
  Encoding,
  SpecialRole,
  Tokenizer,
} from "./types.js";
