/**
 * @file Supervised fine-tuning of GPT-2: mean −log p of each labelled token given those before it. Labels follow transformers:
 * they stand beside the ids, and −100 means "not learned". Dropout is not applied.
 */
import { type Graph, tokenLogprobs } from "../../../lib/graph/index.js";
import type { Gpt2Config } from "../../../lib/models/config.js";
import { gpt2Hidden, gpt2Logits, packedInputs } from "../../../lib/models/gpt2.js";
import { checkLabels, IGNORED_LABEL } from "./labels.js";
import { checkIds, checkLength, int64Feed, packTokens } from "./layout.js";
import type { SupervisedTask } from "./supervised-learner.js";

/** One text. */
export interface TextExample {
  /** Token ids, [T], special tokens included. */
  readonly ids: ArrayLike<number>;
  /** What to predict at each place, [T]: the token's id or −100; default the ids. The first token is never predicted. */
  readonly labels?: ArrayLike<number>;
}

/** The task for a policy without its value head (whose weights stay as they are in the caller's checkpoint). */
export function nextTokenTask(config: Gpt2Config): SupervisedTask<TextExample> {
  return {
    name: "gpt2-next-token",
    logitWidth: config.vocabSize,
    check(example, field) {
      checkIds(example.ids, config, `${field}.ids`);
      checkLength(example.ids.length, config, field);
      const { ids, labels } = example;
      if (labels) checkLabels(labels, { ids, vocabSize: config.vocabSize }, `${field}.labels`);
    },
    weightOf: (example) => learnedPlaces(example).length,
    sizeOf: (example) => ({ tokens: example.ids.length, logitRows: learnedPlaces(example).length }),
    build(graph: Graph) {
      const places = graph.input("places", "int64", ["tokens"]);
      const labels = graph.input("labels", "int64", ["tokens"]);
      const rows = gpt2Hidden(config, packedInputs(graph));
      const logprobs = tokenLogprobs(gpt2Logits(config, rows.gather(places)), labels);
      return { loss: logprobs.reduceMean().neg(), outputs: {} };
    },
    feeds(examples) {
      // the last token predicts nothing; it stays where it is the only one
      const packed = packTokens(
        examples.map(({ ids }) => Array.from(ids).slice(0, Math.max(1, ids.length - 1))),
      );
      const learned = examples.map(learnedPlaces);
      return {
        ...packed.feeds,
        places: int64Feed(learned.flatMap((places, i) => places.map((t) => packed.starts[i] + t - 1))),
        labels: int64Feed(
          learned.flatMap((places, i) => places.map((t) => (examples[i].labels ?? examples[i].ids)[t])),
        ),
      };
    },
  };
}

/** Places of the tokens that are predicted, ascending; never 0. */
function learnedPlaces({ ids, labels = ids }: TextExample): number[] {
  const places: number[] = [];
  for (let t = 1; t < ids.length; t++) if (labels[t] !== IGNORED_LABEL) places.push(t);
  return places;
}
