/**
 * @file What one request may hold, whatever the model. GetInfo names each under its snake_case name.
 */

/** Limits of a request. Sizes in bytes. */
export interface RequestLimits {
  /** Prompts of a Generate, sequences of a LogProbs. */
  readonly maxPrompts: number;
  /** Prompts × num_return_sequences. */
  readonly maxSequences: number;
  /** UTF-8 bytes of one prompt before it is tokenized. */
  readonly maxTextBytes: number;
  /** Stop strings. */
  readonly maxStopStrings: number;
  /** UTF-8 bytes of one stop string. */
  readonly maxStopStringBytes: number;
  /** eos_token_ids and suppress_token_ids each. */
  readonly maxListedIds: number;
  /** Bytes of all distributions of a LogProbs together. */
  readonly maxDistributionBytes: number;
}

/** The limits of every server. */
export const REQUEST_LIMITS: RequestLimits = {
  maxPrompts: 512,
  maxSequences: 1024,
  maxTextBytes: 64 * 1024,
  maxStopStrings: 16,
  maxStopStringBytes: 1024,
  maxListedIds: 4096,
  maxDistributionBytes: 56 * 2 ** 20, // a client's default limit of a message is 64 MiB
};

/** As GetInfo names them. */
export function namedLimits(limits: RequestLimits): Record<string, number> {
  return {
    max_prompts: limits.maxPrompts,
    max_sequences: limits.maxSequences,
    max_text_bytes: limits.maxTextBytes,
    max_stop_strings: limits.maxStopStrings,
    max_stop_string_bytes: limits.maxStopStringBytes,
    max_listed_ids: limits.maxListedIds,
    max_distribution_bytes: limits.maxDistributionBytes,
  };
}
