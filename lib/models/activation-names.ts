/**
 * @file The feed-forward activations that transformers configs name and we can compute.
 */

/** `hidden_act`, `activation` or `activation_function` of a config. */
export const ACTIVATIONS = [
  "gelu",
  "gelu_python",
  "gelu_new",
  "gelu_pytorch_tanh",
  "gelu_fast",
  "quick_gelu",
  "relu",
  "silu",
  "swish",
  "tanh",
] as const;

/** One of ACTIVATIONS. */
export type ActivationName = (typeof ACTIVATIONS)[number];
