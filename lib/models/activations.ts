/**
 * @file Feed-forward activations over graph tensors, by the name a config gives them.
 */
import { gelu, geluTanh, mul, relu, sigmoid, type Tensor, tanh } from "../graph/index.js";
import type { ActivationName } from "./activation-names.js";

/** Applies the named activation, element by element. */
export function activation(name: ActivationName, x: Tensor): Tensor {
  switch (name) {
    case "gelu":
    case "gelu_python":
      return gelu(x);
    case "gelu_new":
    case "gelu_pytorch_tanh":
    case "gelu_fast": // the same formula with √(2/π) rounded to ten digits
      return geluTanh(x);
    case "quick_gelu":
      return mul(x, sigmoid(mul(x, 1.702)));
    case "relu":
      return relu(x);
    case "silu":
    case "swish":
      return mul(x, sigmoid(x));
    case "tanh":
      return tanh(x);
  }
}
