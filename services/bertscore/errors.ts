/**
 * @file Errors of the BERTScore service beyond those of the server kit.
 */

/** Tokenizer and weights of a directory do not belong together; the server does not start. */
export class ModelMismatchError extends Error {
  readonly code = "MODEL_MISMATCH";

  constructor(message: string) {
    super(message);
    this.name = "ModelMismatchError";
  }
}

/** The encoder produced NaN or infinity, so there is no score to give (INTERNAL). */
export class NonFiniteEmbeddingError extends Error {
  readonly code = "NON_FINITE";

  constructor({ tokens, layer }: { tokens: number; layer: number }) {
    super(`layer ${layer}: non-finite hidden state for a sentence of ${tokens} tokens`);
    this.name = "NonFiniteEmbeddingError";
  }
}

/** A baseline table that is missing or malformed; the server does not start. */
export class BaselineError extends Error {
  readonly code = "CONFIG_INVALID";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "BaselineError";
  }
}

/** A request to rescale where the server holds no baseline (FAILED_PRECONDITION). */
export class NoBaselineError extends Error {
  readonly code = "WRONG_STATE";
  readonly reason = "NO_BASELINE";

  constructor(model: string) {
    super(`options.rescale: this server has no baseline for ${model}; start it with --rescale-baseline FILE`);
    this.name = "NoBaselineError";
  }
}

/** `--layer` is beyond the model's last layer; the server does not start. */
export class InvalidLayerError extends Error {
  readonly code = "CONFIG_INVALID";

  constructor(layer: number, layerCount: number) {
    super(`layer: is ${layer}; accepted: 0 to ${layerCount}, the layers of the model`);
    this.name = "InvalidLayerError";
  }
}
