/**
 * @file One sample on its way through the loop: prompt, response, scores. Each stage adds its part.
 */

/** A prompt, ready to be generated from. */
export interface PromptSample {
  /** Position in the batch, from 0. */
  readonly index: number;
  readonly question: string;
  /** Reference answer of the row. */
  readonly answer: string;
  /** Control token, "" without control. */
  readonly control: string;
  /** +1, or −1 for the bad control token. */
  readonly sign: 1 | -1;
  /** The prompt's text, control token included. */
  readonly prompt: string;
  /** Ids of the prompt, [Q]. */
  readonly promptIds: readonly number[];
  /** Seed that its response is drawn with. */
  readonly seed: bigint;
  /** Most tokens to generate. */
  readonly maxNewTokens: number;
}

/** A sample with its response. */
export interface RolloutSample extends PromptSample {
  /** Ids of the response, [G]. */
  readonly responseIds: readonly number[];
  /** The response decoded. */
  readonly response: string;
  /** The sampler's log-probability of each response token, [G], nats. */
  readonly samplerLogprobs: Float32Array;
  readonly finish: "eos" | "stop" | "length";
  /** Weights that generated it. */
  readonly weightVersion: number;
  readonly weightDigest: string;
  /** Address of the server that generated it. */
  readonly server: string;
}

/** What became of scoring one sample under one term, or under all. */
export type Outcome =
  | { readonly kind: "scored"; readonly score: number }
  | { readonly kind: "failed"; readonly reason: string };
