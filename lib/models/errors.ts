/**
 * @file Errors of the model definitions.
 */

/** A `config.json` that we cannot build a model from: which key, what it holds, what would be accepted. */
export class ModelConfigError extends Error {
  readonly code = "MODEL_CONFIG";

  constructor(
    /** The key of config.json. */
    readonly key: string,
    readonly found: unknown,
    readonly accepted: string,
  ) {
    super(`config.json: ${key}: expected ${accepted}, got ${JSON.stringify(found) ?? "nothing"}`);
    this.name = "ModelConfigError";
  }
}
