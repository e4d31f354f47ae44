/** @file Checks of a BERTScore server: proto/rlhf/bertscore/v1. Pairs in, precision, recall and F1 out. */
import {
  BertScoreService,
  type GetInfoResponse,
  type PairScore,
  type Similarity,
} from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { ElementType } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { RpcError } from "../../lib/rpc/index.js";
import { type Check, largest, must, mustBeNear, needs, ofBytes } from "./check.js";
import { type Described, mustBeWeightsOf } from "./info.js";
import { errorOf, mustRefuse, type Subject, Target, type TargetOptions } from "./target.js";

/** How far scores of the same pair may be apart. */
const SAME = 1e-5;
/** How far cosines may be beyond ±1, and sums of them apart, by rounding. */
const ROUNDING = 1e-4;

type PairInit = { candidate: string; references: string[] };

const pair = (candidate: string, ...references: string[]): PairInit => ({ candidate, references });

/** Pairs of all lengths. */
const PAIRS: readonly PairInit[] = [
  pair("The cat sat on the mat.", "A cat was sitting on the mat."),
  pair("no", "The library is closed on Sundays and on public holidays, but the book return is always open."),
  pair("You can renew a loan twice, by telephone or on the web site.", "Loans may be renewed two times."),
  pair("Straße, naïve, 東京, 😀", "street"),
  pair("x", "y"),
  pair("Ask at the desk on the ground floor, next to the stairs and behind the newspapers.", "At the desk."),
];

let made = 0;
/** A sentence that was never sent before, so that no cache knows it. */
const unique = () =>
  `${++made} ${Array.from({ length: 36 }, (_, i) => `word${(made * 31 + i * 7) % 997}`).join(" ")}`;

/** What the checks that fit every service must know of this one. */
const bertscoreSubject: Subject = {
  desc: BertScoreService,
  probe: () => ({ method: "score", request: { pairs: [pair("a cat", "the cat")] } }),
  work: (size) => ({
    method: "score",
    request: { pairs: Array.from({ length: size }, () => pair(unique(), unique())) },
  }),
  itemsLimit: "max_items",
  queueLimit: "max_queue_items",
  runningLimit: "max_batch_items",
  refused: () => ({ method: "score", request: { pairs: [] } }),
};

/** A BERTScore server under test. */
export class BertscoreTarget extends Target implements Described {
  constructor(
    address: string,
    options: TargetOptions,
    readonly info: GetInfoResponse | undefined,
  ) {
    super(address, bertscoreSubject, options, info?.server);
  }

  get bertscore() {
    return this.client(BertScoreService);
  }

  /** Pairs of all lengths, as many as one call may have. */
  get pairs(): PairInit[] {
    return this.few(PAIRS);
  }
}

/** Checks of Score, Explain and a BERTScore server's GetInfo. */
export const bertscoreChecks: readonly Check<BertscoreTarget>[] = [
  {
    id: "info/layers",
    what: "GetInfo names the number of layers, a default among them, and the hash of default options",
    async run({ info }) {
      must(info !== undefined, "the server has no GetInfo");
      must(info.layerCount > 0, "layer_count is 0");
      must(
        info.defaultLayer >= 0 && info.defaultLayer <= info.layerCount,
        `default_layer is ${info.defaultLayer}, layer_count ${info.layerCount}`,
      );
      must(info.hash !== "", "hash is empty");
    },
  },
  {
    id: "score/batch",
    what: "Score gives one result a pair: cosines, F1 the harmonic mean of precision and recall",
    async run(target) {
      const scores = await similarities(target, target.pairs);
      for (const [i, { precision, recall, f1 }] of scores.entries()) {
        for (const value of [precision, recall, f1]) {
          must(Math.abs(value) <= 1 + ROUNDING, `results[${i}]: ${value} is no cosine similarity`);
        }
        const mean = precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall);
        mustBeNear(f1, mean, ROUNDING, `results[${i}].f1 and the harmonic mean`);
      }
    },
  },
  {
    id: "score/version",
    what: "Score names model, digest of the weights and hash; default options have the hash of GetInfo",
    async run(target) {
      const reply = await target.bertscore.score({ pairs: [pair("a", "b")] });
      must(reply.model !== "", "model is empty");
      mustBeWeightsOf(target.info, reply.weights, "weights");
      must(reply.hash !== "", "hash is empty");
      if (target.info)
        must(reply.hash === target.info.hash, `hash is ${reply.hash}, GetInfo's ${target.info.hash}`);
    },
  },
  {
    id: "score/order",
    what: "results are in the order of the pairs",
    async run(target) {
      const { pairs } = target;
      needs(pairs.length > 1, "max_items is 1");
      const there = await f1s(target, pairs);
      const back = await f1s(target, pairs.toReversed());
      needs(new Set(there).size > 1, "every pair has the same score");
      for (const [i, f1] of there.entries()) {
        const turned = back[pairs.length - 1 - i] as number;
        mustBeNear(turned, f1, SAME, `f1 of pairs[${i}] and in reverse order`);
      }
    },
  },
  {
    id: "score/padding",
    what: "a pair scores the same alone and beside longer ones, within 1e-5",
    async run(target) {
      const { pairs } = target;
      const together = await similarities(target, pairs);
      const distances: number[] = [];
      for (const [i, one] of pairs.entries()) {
        const [alone] = await similarities(target, [one]);
        for (const measure of MEASURES) {
          const [a, b] = [alone?.[measure] as number, together[i]?.[measure] as number];
          mustBeNear(a, b, SAME, `${measure} of pairs[${i}] alone and in a batch`);
          distances.push(Math.abs(a - b));
        }
      }
      return `largest difference ${largest(distances)}`;
    },
  },
  {
    id: "score/concurrent",
    what: "calls at the same time each get their own results",
    async run(target) {
      const { pairs } = target;
      const expected = await f1s(target, pairs);
      const starts = Array.from({ length: 24 }, (_, i) => i % pairs.length);
      const all = await Promise.all(starts.map((start) => f1s(target, pairs.slice(start))));
      for (const [i, got] of all.entries()) {
        for (const [j, f1] of got.entries()) {
          const at = (starts[i] as number) + j;
          mustBeNear(f1, expected[at] as number, SAME, `call ${i}, pairs[${j}] and the same pair before`);
        }
      }
    },
  },
  {
    id: "score/identical",
    what: "a text compared with itself scores 1",
    async run(target) {
      const scores = await similarities(
        target,
        target.pairs.map(({ candidate }) => pair(candidate, candidate)),
      );
      for (const [i, score] of scores.entries()) {
        for (const measure of MEASURES) {
          mustBeNear(score[measure], 1, ROUNDING, `${measure} of a text and itself, and 1 (results[${i}])`);
        }
      }
    },
  },
  {
    id: "score/symmetry",
    what: "precision of a pair is recall of the pair turned round",
    async run(target) {
      const { pairs } = target;
      const there = await similarities(target, pairs);
      const turned = await similarities(
        target,
        pairs.map(({ candidate, references }) => pair(references[0] as string, candidate)),
      );
      for (const [i, { precision, recall }] of there.entries()) {
        mustBeNear(
          precision,
          turned[i]?.recall as number,
          ROUNDING,
          `pairs[${i}]: precision and recall turned`,
        );
        mustBeNear(
          recall,
          turned[i]?.precision as number,
          ROUNDING,
          `pairs[${i}]: recall and precision turned`,
        );
      }
    },
  },
  {
    id: "score/references",
    what: "of several references precision, recall and F1 are each the best",
    async run(target) {
      const { candidate } = PAIRS[0] as PairInit;
      const { pairs } = target;
      // the best match is neither the first nor, where there are more than two, the last
      const references = [...pairs.slice(1, 3), ...pairs.slice(0, 1), ...pairs.slice(3)]
        .slice(0, target.limit("max_references"))
        .map((one) => one.references[0] as string);
      needs(references.length > 1, "max_items or max_references is 1");
      const [several] = await similarities(target, [pair(candidate, ...references)]);
      const single = await similarities(
        target,
        references.map((reference) => pair(candidate, reference)),
      );
      for (const measure of MEASURES) {
        const best = Math.max(...single.map((score) => score[measure]));
        mustBeNear(
          several?.[measure] as number,
          best,
          SAME,
          `${measure} with several references and the best over single ones`,
        );
      }
    },
  },
  {
    id: "score/layers",
    what: "the layer asked for is scored; all_layers gives each, embedding first",
    async run(target) {
      must(target.info !== undefined, "the server has no GetInfo that counts layers");
      const { layerCount } = target.info;
      const pairs = target.pairs.slice(0, 2);
      const { results } = await target.bertscore.score({ pairs, options: { allLayers: true } });
      for (const [i, { layers }] of results.entries()) {
        must(
          layers.length === layerCount + 1,
          `results[${i}].layers has ${layers.length}, not ${layerCount + 1}`,
        );
      }
      for (const layer of new Set([0, Math.floor(layerCount / 2), layerCount])) {
        const reply = await target.bertscore.score({ pairs, options: { layer } });
        for (const [i, { score }] of reply.results.entries()) {
          const among = results[i]?.layers[layer]?.f1 as number;
          mustBeNear(score?.f1 as number, among, SAME, `pairs[${i}]: f1 at layer ${layer} and among all`);
        }
      }
    },
  },
  {
    id: "score/any-text",
    what: "empty texts, white space, control characters and emoji are texts like others",
    async run(target) {
      const odd = target.few(["", " ", "\n\t", "\u0000\u0001", "\u202eabc", "👩‍👩‍👧‍👦", "\ufffd\ufeff"]);
      mustHaveResults(
        (await target.bertscore.score({ pairs: odd.map((text) => pair(text, text)) })).results,
        odd.length,
      );
    },
  },
  {
    id: "score/idf",
    what: "idf weighs tokens by how rare they are in the corpus, and is named in the hash",
    async run(target) {
      const pairs = [pair("the cat and the dog", "the dog and the horse")];
      const idfCorpus = ["the cat", "the dog", "the horse", "the cow", "a goat"];
      const plain = await target.bertscore.score({ pairs });
      const weighed = await target.bertscore.score({ pairs, options: { idf: true, idfCorpus } });
      const [before] = mustHaveResults(plain.results, 1);
      const [after] = mustHaveResults(weighed.results, 1);
      must(
        Math.abs((after as Scores).f1 - (before as Scores).f1) > SAME,
        `idf = true changed nothing: f1 is ${before?.f1} without and with a corpus`,
      );
      must(weighed.hash !== plain.hash, `the hash is ${plain.hash} with idf and without`);
    },
  },
  {
    id: "score/hash",
    what: "the hash tells the layer, so that scores are compared only with their like",
    async run(target) {
      must(target.info !== undefined, "the server has no GetInfo that counts layers");
      const pairs = PAIRS.slice(0, 1);
      const [first, last] = await Promise.all(
        [0, target.info.layerCount].map((layer) => target.bertscore.score({ pairs, options: { layer } })),
      );
      must(
        first?.hash !== last?.hash,
        `the hash is ${first?.hash} at layer 0 and at ${target.info.layerCount}`,
      );
    },
  },
  {
    id: "score/length",
    what: "a text that is too long is cut and says so, one that fits is not",
    async run(target) {
      const max = target.info?.model?.maxTokens ?? 0;
      needs(max > 0, "GetInfo publishes no model.max_tokens");
      const long = Array.from({ length: max + 1 }, (_, i) => `w${i % 9}`).join(" ");
      needs(
        long.length <= (target.limit("max_text_bytes") ?? Number.POSITIVE_INFINITY),
        "max_text_bytes is reached before max_tokens",
      );
      for (const [text, is] of [
        [long, true],
        ["short", false],
      ] as const) {
        const { results } = await target.bertscore.score({ pairs: [pair(text, "short")] });
        const [{ truncated, candidateTokens }] = results as [PairScore];
        const what = `truncated is ${truncated} for a text that ${is ? "is too long" : "fits"}`;
        must(truncated === is, what);
        must(candidateTokens <= max, `candidate_tokens is ${candidateTokens}, max_tokens is ${max}`);
      }
    },
  },
  {
    id: "score/rescale",
    what: "rescaling is done, or refused with FAILED_PRECONDITION where there is no baseline: never left out silently",
    async run(target) {
      const pairs = PAIRS.slice(0, 1);
      const call = target.bertscore.score({ pairs, options: { rescale: true } });
      if (target.info?.hasBaseline === false) {
        await mustRefuse(call, "rescale without a baseline", "FAILED_PRECONDITION");
        return "no baseline";
      }
      const plain = await f1s(target, pairs);
      const rescaled = (await call).results[0]?.score?.f1 as number;
      must(Math.abs(rescaled - (plain[0] as number)) > SAME, "rescale = true changed nothing");
    },
  },
  {
    id: "explain/agrees",
    what: "Explain gives the matrix that Score's numbers come from",
    async run(target) {
      const { candidate, references } = PAIRS[0] as PairInit;
      const reply = await target.bertscore
        .explain({ candidate, reference: references[0] as string })
        .catch((error: unknown) => {
          needs(
            !(error instanceof RpcError && error.status === "UNIMPLEMENTED"),
            "the server has no Explain",
          );
          throw error;
        });
      const [m, n] = [reply.candidateTokens.length, reply.referenceTokens.length];
      const shape = reply.similarity?.shape.map(Number) ?? [];
      must(
        shape.length === 2 && shape[0] === m && shape[1] === n,
        `similarity is [${shape.join(", ")}] for ${m} and ${n} tokens`,
      );
      must(
        reply.similarity?.elementType === ElementType.FLOAT32 &&
          reply.similarity.data.byteLength === 4 * m * n,
        "similarity is not float32 of its shape",
      );
      const [score] = await similarities(target, PAIRS.slice(0, 1));
      mustBeNear(reply.score?.f1 as number, score?.f1 as number, SAME, "f1 of Explain and of Score");
      const weights = reply.candidateTokens.reduce((sum, { weight }) => sum + weight, 0);
      const mean =
        reply.candidateTokens.reduce((sum, { weight, bestSimilarity }) => sum + weight * bestSimilarity, 0) /
        weights;
      mustBeNear(
        mean,
        score?.precision as number,
        ROUNDING,
        "mean best match of the candidate and precision",
      );
      mustBeWeightsOf(target.info, reply.weights, "weights");
    },
  },
  {
    id: "errors/empty",
    what: "a call without pairs is refused, naming pairs",
    async run(target) {
      await mustRefuse(target.bertscore.score({ pairs: [] }), "no pairs", "INVALID_ARGUMENT", "pairs");
    },
  },
  {
    id: "errors/references",
    what: "a pair without references is refused, naming it",
    async run(target) {
      const pairs = target.few([pair("c"), pair("a", "b")]).reverse();
      const field = `pairs[${pairs.length - 1}].references`;
      await mustRefuse(target.bertscore.score({ pairs }), "no references", "INVALID_ARGUMENT", field);
    },
  },
  {
    id: "errors/layer",
    what: "a layer that the model does not have is refused, naming options.layer",
    async run(target) {
      for (const layer of [-1, (target.info?.layerCount ?? 1000) + 1]) {
        const call = target.bertscore.score({ pairs: [pair("a", "b")], options: { layer } });
        await mustRefuse(call, `layer ${layer}`, "INVALID_ARGUMENT", "options.layer");
      }
    },
  },
  {
    id: "errors/model",
    what: "another model than the one served is NOT_FOUND",
    async run(target) {
      const call = target.bertscore.score({ pairs: [pair("a", "b")], model: "no such model" });
      await mustRefuse(call, "an unknown model", "NOT_FOUND");
    },
  },
  {
    id: "errors/all-layers",
    what: "Explain of all layers is refused, naming options.all_layers: a matrix is of one",
    async run(target) {
      const call = target.bertscore.explain({ candidate: "a", reference: "b", options: { allLayers: true } });
      call.catch(() => {}); // looked at below
      const error = await errorOf(call, "Explain with all_layers");
      needs(error.status !== "UNIMPLEMENTED", "the server has no Explain");
      await mustRefuse(call, "Explain with all_layers", "INVALID_ARGUMENT", "options.all_layers");
    },
  },
  {
    id: "limits/items",
    what: "limits[max_items] pairs are accepted, one more is refused, naming pairs",
    async run(target) {
      const most = target.neededLimit("max_items");
      const pairs = Array.from({ length: most }, (_, i) => pair(`t${i % 5}`, "u"));
      mustHaveResults((await target.bertscore.score({ pairs })).results, most);
      const call = target.bertscore.score({ pairs: [...pairs, pair("one", "more")] });
      await mustRefuse(call, `${most + 1} pairs`, "INVALID_ARGUMENT", "pairs");
    },
  },
  {
    id: "limits/references",
    what: "limits[max_references] references of a pair are accepted, one more is refused, naming them",
    async run(target) {
      const most = target.neededLimit("max_references");
      const references = Array.from({ length: most }, (_, i) => `r${i % 5}`);
      mustHaveResults((await target.bertscore.score({ pairs: [pair("a", ...references)] })).results, 1);
      const call = target.bertscore.score({ pairs: [pair("a", ...references, "one more")] });
      await mustRefuse(call, `${most + 1} references`, "INVALID_ARGUMENT", "pairs[0].references");
    },
  },
  {
    id: "limits/text",
    what: "a text of limits[max_text_bytes] is read, a longer one is refused, naming it",
    async run(target) {
      const most = target.neededLimit("max_text_bytes");
      const { score } = target.bertscore;
      mustHaveResults((await score({ pairs: [pair(ofBytes(most), "b")] })).results, 1);
      const pairs = target.few([pair(ofBytes(most + 1), "b"), pair("a", "b")]).reverse();
      const field = `pairs[${pairs.length - 1}].candidate`;
      await mustRefuse(score({ pairs }), `a text of ${most + 1} bytes`, "INVALID_ARGUMENT", field);
    },
  },
];

const MEASURES = ["precision", "recall", "f1"] as const;
type Scores = { precision: number; recall: number; f1: number };

async function similarities(target: BertscoreTarget, pairs: readonly PairInit[]): Promise<Scores[]> {
  const { results } = await target.bertscore.score({ pairs: [...pairs] });
  return mustHaveResults(results, pairs.length);
}

async function f1s(target: BertscoreTarget, pairs: readonly PairInit[]): Promise<number[]> {
  return (await similarities(target, pairs)).map(({ f1 }) => f1);
}

function mustHaveResults(results: readonly PairScore[], count: number): Scores[] {
  must(results.length === count, `${count} pairs gave ${results.length} results`);
  return results.map(({ score }, i) => {
    must(score !== undefined, `results[${i}].score is not set`);
    const { precision, recall, f1 } = score as Similarity;
    for (const value of [precision, recall, f1]) {
      must(value !== undefined, `results[${i}].score has a measure that is not set; 0 must be set too`);
      must(Number.isFinite(value), `results[${i}].score has ${value}`);
    }
    return { precision, recall, f1 } as Scores;
  });
}
