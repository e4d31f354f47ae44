/**
 * @file Errors of the reward service beyond those of the server kit.
 */

/** Tokenizer and weights of a directory do not belong together; the server does not start. */
export class ModelMismatchError extends Error {
  readonly code = "MODEL_MISMATCH";

  constructor(message: string) {
    super(message);
    this.name = "ModelMismatchError";
  }
}

/** The model gave NaN or infinity for a text, so there is no score to give (INTERNAL). */
export class NonFiniteLogitsError extends Error {
  readonly code = "NON_FINITE";

  constructor(index: number, logits: ArrayLike<number>) {
    super(`texts[${index}]: the model gave logits ${Array.from(logits).join(", ")}`);
    this.name = "NonFiniteLogitsError";
  }
}

/** `--label` names no label of the model; the server does not start. */
export class InvalidLabelError extends Error {
  readonly code = "CONFIG_INVALID";

  constructor(label: string, accepted: string) {
    super(`label: ${JSON.stringify(label)} is no label of the model; accepted: ${accepted}`);
    this.name = "InvalidLabelError";
  }
}
