/**
 * @file The error of a sequence that has no token left to choose.
 */
import { InvalidFieldError } from "../../../lib/rpc/errors.js";

/** The options of a request ban every token at some position (INVALID_ARGUMENT). */
export class EverythingBannedError extends InvalidFieldError {
  constructor(promptIndex: number, generated: number) {
    super([
      {
        field: "options",
        description: `bans every token after ${generated} new tokens of prompts[${promptIndex}]; accepted: options that leave at least one token (see no_repeat_ngram_size, suppress_token_ids)`,
      },
    ]);
  }
}
