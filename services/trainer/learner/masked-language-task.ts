/**
 * @file Masked language modelling (BERT, RoBERTa, DistilBERT): mean −log p of each hidden token given the text around it. This is how
 * encoders are made. Which tokens are hidden is the caller's choice; logits are computed for those alone. Dropout is not applied.
 */
import { type Graph, tokenLogprobs } from "../../../lib/graph/index.js";
import { type EncoderConfig, maxTokens } from "../../../lib/models/config.js";
import { encoderInputs } from "../../../lib/models/encoder.js";
import type { EncoderRow } from "../../../lib/models/encoder-feeds.js";
import { maskedLmHidden, maskedLmLogits } from "../../../lib/models/masked-lm.js";
import { encoderRowFeeds } from "./encoder-row-feeds.js";
import { checkLabels, IGNORED_LABEL } from "./labels.js";
import { checkIds, checkLength, int64Feed } from "./layout.js";
import type { SupervisedTask } from "./supervised-learner.js";

/** One text with tokens hidden: what the model reads, and what stood there. */
export interface MaskedExample extends EncoderRow {
  /** The token to find at each place, [T]; −100 where none is asked for. */
  readonly labels: ArrayLike<number>;
}

/** The task for an encoder with its head. Evaluations count `accuracy`: hidden tokens whose most probable id is the right one. */
export function maskedLanguageTask(config: EncoderConfig): SupervisedTask<MaskedExample> {
  return {
    name: `${config.modelType}-masked-language`,
    logitWidth: config.vocabSize,
    check({ ids, labels }, field) {
      checkIds(ids, config, `${field}.ids`);
      checkLength(ids.length, { ...config, positions: maxTokens(config) }, field);
      checkLabels(labels, { ids, vocabSize: config.vocabSize }, `${field}.labels`);
    },
    weightOf: (example) => hiddenPlaces(example).length,
    sizeOf: (example) => ({ tokens: example.ids.length, logitRows: hiddenPlaces(example).length }),
    build(graph: Graph) {
      const hidden = maskedLmHidden(config, encoderInputs(graph, config));
      const places = graph.input("places", "int64", ["tokens"]);
      const labels = graph.input("labels", "int64", ["tokens"]);
      const rows = hidden.reshape([-1, config.hiddenSize]).gather(places);
      const logits = maskedLmLogits(config, rows);
      const right = logits.argMax(-1).equal(labels).cast("float32");
      return { loss: tokenLogprobs(logits, labels).reduceMean().neg(), outputs: { right } };
    },
    feeds(examples) {
      const { time, feeds } = encoderRowFeeds(config, examples);
      const hidden = examples.map(hiddenPlaces);
      return {
        ...feeds,
        places: int64Feed(hidden.flatMap((places, row) => places.map((t) => row * time + t))),
        labels: int64Feed(
          hidden.flatMap((places, row) => places.map((t) => examples[row].labels[t] as number)),
        ),
      };
    },
    count: (_examples, { right }) => ({ accuracy: right.reduce((sum, one) => sum + one, 0) }),
  };
}

/** Places of the tokens to find, ascending. */
function hiddenPlaces({ labels }: MaskedExample): number[] {
  const places: number[] = [];
  for (let t = 0; t < labels.length; t++) if (labels[t] !== IGNORED_LABEL) places.push(t);
  return places;
}
