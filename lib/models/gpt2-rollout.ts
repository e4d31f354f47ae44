/**
 * @file GPT-2 for generation: new tokens attend to keys and values kept from earlier runs. One graph serves prompts
 * (many tokens a row, nothing cached) and decode steps (one token a row). Rows may have different lengths; prompts are
 * padded on the right, what lies beyond a row's length is never read, so each row equals its result alone.
 */
import { concat, Graph, groupQueryAttention, range, scatterNd, type Tensor } from "../graph/index.js";
import type { Gpt2Config } from "./config.js";
import { attend, attentionScale, type Gpt2Matrices, gpt2Layers, gpt2Logits, splitHeads } from "./gpt2.js";
import { selectRows } from "./gpt2-scoring.js";

/**
 * How the graph attends. `kernel`: ONNX Runtime's GroupQueryAttention (com.microsoft), whose cost follows each row's own
 * length; it exists for float32 on CPU, with heads whose width is a multiple of 8. `masked`: plain operators that any
 * engine has and any width suits; cost follows the cache's capacity.
 */
export type RolloutAttention = "kernel" | "masked";

/** How a rollout graph is built. */
export interface Gpt2RolloutOptions {
  /** Default `kernel` where the CPU has it for this model. */
  readonly attention?: RolloutAttention;
  /** How the blocks' matrices lie; default `in-out`. */
  readonly matrices?: Gpt2Matrices;
}

/** The faster attention that a device has for this model. */
export function rolloutAttention(config: Gpt2Config, device: "cpu" | "cuda" | "webgpu"): RolloutAttention {
  return device === "cpu" && (config.hiddenSize / config.heads) % 8 === 0 ? "kernel" : "masked";
}

/** Name of a block's cache among the inputs of a rollout graph; the output that replaces it is `present.…`. */
export function cacheName(layer: number, kind: "key" | "value"): string {
  return `past.${layer}.${kind}`;
}

/** Name of the output that holds a block's cache after the run; bind it to the very tensor of `cacheName`. */
export function presentName(layer: number, kind: "key" | "value"): string {
  return `present.${layer}.${kind}`;
}

/**
 * Inputs: `input_ids` and `position_ids` [batch, time] int64; `last` [batch] int64, row · time + index of the row's last
 * real token; `lengths` [batch] int32, tokens of the row including the new ones, minus one; `longest` [1] int32, the
 * largest of those lengths (not reduced by one); for a prompt it must equal `time`; `past.{i}.key` and `past.{i}.value`
 * [batch, A, cache, d] float32, of which the first (length − new) positions are read.
 * Outputs: `logits` and `logprobs` (their log-softmax) [batch, V] after each row's last token; `present.{i}.key` and
 * `present.{i}.value`, to be bound to the past's own memory.
 * Either all rows bring one token each, or all are prompts with nothing cached.
 */
export function gpt2RolloutGraph(
  config: Gpt2Config,
  { attention = rolloutAttention(config, "cpu"), matrices }: Gpt2RolloutOptions = {},
): Graph {
  const graph = new Graph("gpt2-rollout");
  const inputIds = graph.input("input_ids", "int64", ["batch", "time"]);
  const positionIds = graph.input("position_ids", "int64", ["batch", "time"]);
  const last = graph.input("last", "int64", ["batch"]);
  const lengths = graph.input("lengths", "int32", ["batch"]);
  const longest = graph.input("longest", "int32", [1]);
  const cache = (layer: number, kind: "key" | "value") => {
    const d = config.hiddenSize / config.heads;
    return graph.input(cacheName(layer, kind), "float32", ["batch", config.heads, "cache", d]);
  };

  const states = gpt2Layers(config, { inputIds, positionIds, matrices }, (qkv, layer) => {
    const past = { key: cache(layer, "key"), value: cache(layer, "value") };
    const step =
      attention === "masked"
        ? maskedAttention(config, layer, qkv, past, positionIds)
        : kernelAttention(config, layer, qkv, past, lengths, longest);
    graph.output(presentName(layer, "key"), step.key);
    graph.output(presentName(layer, "value"), step.value);
    return step.output;
  });
  const logits = gpt2Logits(config, selectRows(config, states[config.layers], last));
  graph.output("logits", logits);
  graph.output("logprobs", logits.logSoftmax(-1));
  return graph;
}

interface Past {
  readonly key: Tensor;
  readonly value: Tensor;
}

interface Step extends Past {
  /** [B, T, D]. */
  readonly output: Tensor;
}

function kernelAttention(
  config: Gpt2Config,
  layer: number,
  qkv: Tensor,
  past: Past,
  lengths: Tensor,
  longest: Tensor,
): Step {
  const [query, key, value] = qkv.split(-1, 3);
  const step = groupQueryAttention(
    {
      query,
      key,
      value,
      pastKey: past.key,
      pastValue: past.value,
      seqlensK: lengths,
      totalSequenceLength: longest,
    },
    { numHeads: config.heads, scale: attentionScale(config, layer) },
  );
  return { output: step.output, key: step.presentKey, value: step.presentValue };
}

const LOWEST = -3.4028234663852886e38;

/** Writes keys and values at each token's position and lets it see every position up to its own. */
function maskedAttention(
  config: Gpt2Config,
  layer: number,
  qkv: Tensor,
  past: Past,
  positionIds: Tensor,
): Step {
  const { graph } = qkv;
  const [q, k, v] = qkv.split(-1, 3).map((x) => splitHeads(config, x)); // [B, A, T, d]
  const [batch, , time] = q.shape;
  const places = [batch, config.heads, time, 1];
  const index = concat(
    [
      range(graph, batch).reshape([batch, 1, 1, 1]).expand(places),
      range(graph, config.heads).reshape([1, config.heads, 1, 1]).expand(places),
      positionIds.reshape([batch, 1, time, 1]).expand(places),
    ],
    -1,
  );
  const key = scatterNd(past.key, index, k);
  const value = scatterNd(past.value, index, v);
  const slots = range(graph, past.key.dim(2)); // [cache]
  const seen = slots.lessOrEqual(positionIds.reshape([batch, 1, time, 1])); // [B, 1, T, cache]
  const output = attend(config, layer, [q, key, value], seen.where(graph.constant(0), LOWEST));
  return { output, key, value };
}
