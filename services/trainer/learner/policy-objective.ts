/**
 * @file The graphs of a GPT-2 policy with value head, for PPO: the loss of a minibatch and the rollout without one, and how
 * sequences are fed to both.
 */
import { Graph, tokenLogprobs } from "../../../lib/graph/index.js";
import type { Gpt2Config } from "../../../lib/models/config.js";
import { gpt2Hidden, gpt2Logits, packedInputs, valueHead } from "../../../lib/models/gpt2.js";
import { entropyOf, type PpoLossOptions, ppoLoss } from "../ppo/loss.js";
import type { PpoOptions } from "../ppo/options.js";
import { responseWindow, valueWindow } from "../ppo/response-window.js";
import type { PpoSequence } from "../ppo/types.js";
import { checkIds, checkLength, float32Feed, int64Feed, packTokens, places } from "./layout.js";
import type { HostFeed } from "./run-program.js";
import type { Objective } from "./trainable-model.js";

/** A number in [0, 1) at a time: where value-head dropout gets its randomness. */
export interface UniformSource {
  uniform(): number;
}

/** Options of PPO that the policy's graphs depend on. */
export type PolicyOptions = PpoLossOptions & Pick<PpoOptions, "valueIndexShift">;

/** Samples of one minibatch, and per sample what is fixed since the rollout, [G_i] each. */
export interface PpoMinibatch {
  readonly sequences: readonly PpoSequence[];
  readonly oldLogprobs: readonly Float32Array[];
  readonly oldValues: readonly Float32Array[];
  readonly advantages: readonly Float32Array[];
  readonly returns: readonly Float32Array[];
  /** Source of value-head dropout; needed where that is on. */
  readonly dropout?: UniformSource;
}

/** Outputs of a PPO minibatch, see `ppoLoss`. */
export type PpoMinibatchOutputs = Record<
  "policy_loss" | "value_loss" | "logprobs" | "values" | "ratio" | "entropy",
  Float32Array
>;

/** PPO on a GPT-2 with value head. */
export class PpoObjective implements Objective<PpoMinibatch> {
  readonly name = "gpt2-ppo";
  readonly #config: Gpt2Config;
  readonly #options: PolicyOptions;

  constructor(config: Gpt2Config, options: PolicyOptions) {
    this.#config = config;
    this.#options = options;
  }

  build(graph: Graph): ReturnType<typeof ppoLoss> {
    const config = this.#config;
    return ppoLoss(
      graph,
      {
        hidden: gpt2Hidden(config, packedInputs(graph)),
        width: config.hiddenSize,
        logits: (hidden) => gpt2Logits(config, hidden),
        values: (hidden) => valueHead(config, hidden),
      },
      this.#options,
    );
  }

  feeds(batch: PpoMinibatch): Record<string, HostFeed> {
    const { entropyScope, valueHeadDropout } = this.#options;
    // the last token is read only where the entropy covers its position, too
    const all = entropyScope === "all";
    const { packed, starts, windows, labels, lengths } = layOut(batch.sequences, all ? 0 : 1);
    const feeds: Record<string, HostFeed> = {
      ...packed,
      places: int64Feed(places(windows, starts)),
      labels: int64Feed(labels),
      old_logprobs: float32Feed(batch.oldLogprobs),
      old_values: float32Feed(batch.oldValues),
      advantages: float32Feed(batch.advantages),
      returns: float32Feed(batch.returns),
    };
    if (all) {
      const whole = lengths.map((count) => ({ start: 0, count }));
      feeds.entropy_places = int64Feed(places(whole, starts));
    }
    if (valueHeadDropout > 0) {
      feeds.value_dropout = dropoutMask(
        labels.length,
        this.#config.hiddenSize,
        valueHeadDropout,
        batch.dropout,
      );
    }
    return feeds;
  }
}

/**
 * The rollout: no loss, no gradient. Inputs: packed tokens, `places`, `labels`, `value_places` [N] int64, with value-head
 * dropout `value_dropout` [N, D]. Outputs `logprobs`, `entropy`, `values` [N], and `distribution` [N, V] where `full`.
 */
export function forwardGraph(config: Gpt2Config, options: PolicyOptions, full: boolean): Graph {
  const graph = new Graph("gpt2-rollout-forward");
  const at = (name: string) => graph.input(name, "int64", ["tokens"]);
  const rows = gpt2Hidden(config, packedInputs(graph));
  const logits = gpt2Logits(config, rows.gather(at("places")));
  graph.output("logprobs", tokenLogprobs(logits, at("labels")));
  graph.output("entropy", entropyOf(logits));
  if (full) graph.output("distribution", logits.logSoftmax(-1));
  const valueRows = rows.gather(at("value_places"));
  const kept =
    options.valueHeadDropout === 0
      ? valueRows
      : valueRows.mul(graph.input("value_dropout", "float32", ["tokens", config.hiddenSize]));
  graph.output("values", valueHead(config, kept));
  return graph;
}

/** What the rollout graph is fed for these sequences. */
export function forwardFeeds(
  sequences: readonly PpoSequence[],
  config: Gpt2Config,
  { valueIndexShift, valueHeadDropout }: PolicyOptions,
  dropout?: UniformSource,
): Record<string, HostFeed> {
  const { packed, starts, windows, labels } = layOut(sequences, 1);
  const valueWindows = sequences.map(({ query, response }) =>
    valueWindow(query.length, response.length, valueIndexShift),
  );
  const feeds: Record<string, HostFeed> = {
    ...packed,
    places: int64Feed(places(windows, starts)),
    labels: int64Feed(labels),
    value_places: int64Feed(places(valueWindows, starts)),
  };
  if (valueHeadDropout > 0) {
    feeds.value_dropout = dropoutMask(labels.length, config.hiddenSize, valueHeadDropout, dropout);
  }
  return feeds;
}

/** Throws LearnerInputError naming `field[i]` where a sequence is empty, too long, or holds an id outside the vocabulary. */
export function checkSequences(sequences: readonly PpoSequence[], config: Gpt2Config, field: string): void {
  for (const [i, { query, response }] of sequences.entries()) {
    checkIds(query, config, `${field}[${i}].query`);
    checkIds(response, config, `${field}[${i}].response`);
    checkLength(query.length + response.length, config, `${field}[${i}]`);
  }
}

/** Sequences packed, without their last `drop` tokens, and where their response tokens are chosen. */
function layOut(sequences: readonly PpoSequence[], drop: 0 | 1) {
  const joined = sequences.map(({ query, response }) => {
    const ids = [...Array.from(query), ...Array.from(response)];
    return ids.slice(0, ids.length - drop);
  });
  const { feeds: packed, starts } = packTokens(joined);
  const windows = sequences.map(({ query, response }) => responseWindow(query.length, response.length));
  const labels = sequences.flatMap(({ response }) => Array.from(response));
  return { packed, starts, windows, labels, lengths: joined.map(({ length }) => length) };
}

/** Inverted dropout: each entry 0 with probability p, else 1 / (1 − p). */
function dropoutMask(rows: number, width: number, p: number, source?: UniformSource): HostFeed {
  if (!source) throw new Error(`value-head dropout ${p}: expected a random source, got none`);
  const data = new Float32Array(new ArrayBuffer(4 * rows * width));
  const scale = 1 / (1 - p);
  for (let i = 0; i < data.length; i++) data[i] = source.uniform() < p ? 0 : scale;
  return { dtype: "float32", dims: [rows, width], data };
}
