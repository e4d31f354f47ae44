/**
 * @file Training of a sequence classifier (BERT, RoBERTa, DistilBERT): mean cross-entropy of the right label. This is how reward
 * models are made. Dropout is not applied.
 */
import { crossEntropy, type Graph } from "../../../lib/graph/index.js";
import { classifierLogits } from "../../../lib/models/classifier.js";
import { type EncoderConfig, maxTokens } from "../../../lib/models/config.js";
import { encoderInputs } from "../../../lib/models/encoder.js";
import type { EncoderRow } from "../../../lib/models/encoder-feeds.js";
import { encoderRowFeeds } from "./encoder-row-feeds.js";
import { LearnerInputError } from "./errors.js";
import { checkIds, checkLength, int64Feed } from "./layout.js";
import type { SupervisedTask } from "./supervised-learner.js";

/** One text, tokenized with its special tokens, and its label. */
export interface LabelledExample extends EncoderRow {
  /** Index of the right label. */
  readonly label: number;
}

/** The task for a classifier with its head. Evaluations count `accuracy`. Throws LearnerInputError with fewer than two labels. */
export function classificationTask(config: EncoderConfig): SupervisedTask<LabelledExample> {
  const labels = config.labels.length;
  if (labels < 2) throw new LearnerInputError("num_labels", `expected at least 2, got ${labels}`);
  return {
    name: `${config.modelType}-classification`,
    logitWidth: labels,
    check({ ids, label }, field) {
      checkIds(ids, config, `${field}.ids`);
      checkLength(ids.length, { ...config, positions: maxTokens(config) }, field);
      if (!Number.isInteger(label) || label < 0 || label >= labels) {
        throw new LearnerInputError(
          `${field}.label`,
          `expected an index from 0 to ${labels - 1}, got ${label}`,
        );
      }
    },
    weightOf: () => 1,
    sizeOf: ({ ids }) => ({ tokens: ids.length, logitRows: 1 }),
    build(graph: Graph) {
      const logits = classifierLogits(config, encoderInputs(graph, config));
      const right = graph.input("labels", "int64", ["batch"]);
      return { loss: crossEntropy(logits, right), outputs: { logits } };
    },
    feeds: (examples) => ({
      ...encoderRowFeeds(config, examples).feeds,
      labels: int64Feed(examples.map(({ label }) => label)),
    }),
    count(examples, { logits }) {
      const right = examples.filter(({ label }, row) => {
        const scores = logits.subarray(row * labels, (row + 1) * labels);
        return scores.indexOf(Math.max(...scores)) === label;
      });
      return { accuracy: right.length };
    },
  };
}
