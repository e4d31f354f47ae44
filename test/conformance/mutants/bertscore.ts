/** @file Mistakes of a BERTScore server, by the check that must catch them. */
import { status } from "@grpc/grpc-js";
import type { PairScore } from "../../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { type BertscoreToy, harmonic } from "../toy/bertscore.js";
import { commonMutants, firstOfEach } from "./common.js";
import { asUnknown, otherStatus, renamed, unchecked } from "./fields.js";
import { after, type Mutants, mutation } from "./mutation.js";

/** Changes the results of Score. */
function results(toy: BertscoreToy, change: (results: PairScore[]) => void): void {
  after(toy.methods, "score", (reply) => {
    change(reply.results);
    return reply;
  });
}

/** Changes the score of a pair. */
function scores(toy: BertscoreToy, change: (...call: Parameters<BertscoreToy["pairScore"]>) => number): void {
  const { pairScore } = toy;
  toy.pairScore = (...call) => {
    const { precision, recall } = pairScore(...call);
    const shifted = [precision + change(...call), recall + change(...call)] as const;
    return { precision: shifted[0], recall: shifted[1], f1: harmonic(...shifted) };
  };
}

/** Mistakes of a BERTScore server. */
export const bertscoreMutants: Mutants<BertscoreToy> = {
  ...firstOfEach(
    commonMutants<BertscoreToy>({
      typeName: "rlhf.bertscore.v1.BertScoreService",
      file: "rlhf/bertscore/v1/bertscore.proto",
      itemsLimit: "max_items",
    }),
  ),
  "info/layers": [
    mutation("the number of layers is not given", /layer_count is 0/, (toy) => {
      after(toy.methods, "getInfo", (reply) => ({ ...reply, layerCount: 0 }));
    }),
    mutation("the default layer is counted from the end", /default_layer is -1/, (toy) => {
      after(toy.methods, "getInfo", (reply) => ({ ...reply, defaultLayer: -1 }));
    }),
    mutation("there is no hash", /hash is empty/, (toy) => {
      after(toy.methods, "getInfo", (reply) => ({ ...reply, hash: "" }));
    }),
  ],
  "score/batch": [
    mutation("F1 is the arithmetic mean", /results\[\d\]\.f1 and the harmonic mean: .* differ/, (toy) =>
      results(toy, (all) => {
        for (const { score } of all) score!.f1 = (score!.precision! + score!.recall!) / 2;
      }),
    ),
    mutation("embeddings are not normalized", /is no cosine similarity/, (toy) =>
      results(toy, (all) => {
        for (const { score } of all) score!.precision! *= 40;
      }),
    ),
    mutation("an empty text divides by 0", /results\[\d\]\.score has NaN/, (toy) =>
      results(toy, ([first]) => {
        first!.score!.recall = Number.NaN;
      }),
    ),
    mutation("a pair without a match is left out", /6 pairs gave 5 results/, (toy) =>
      results(toy, (all) => void all.pop()),
    ),
  ],
  "score/version": [
    mutation("the reply does not name its weights", /weights is not set/, (toy) => {
      after(toy.methods, "score", (reply) => ({ ...reply, weights: undefined }));
    }),
    mutation("the hash is another one than GetInfo's", /hash is v2, GetInfo's toy_L2/, (toy) => {
      after(toy.methods, "score", (reply) => ({ ...reply, hash: "v2" }));
    }),
  ],
  "score/order": [
    mutation(
      "pairs are sorted by length for the model, results are not sorted back",
      /in reverse order: .* differ/,
      (toy) => results(toy, (all) => void all.sort((a, b) => a.candidateTokens - b.candidateTokens)),
    ),
  ],
  "score/padding": [
    mutation("padding takes part in the matching", /of pairs\[\d\] alone and in a batch: .* differ/, (toy) =>
      scores(toy, (candidate, _reference, _layer, _weight, batch) => {
        const longest = Math.max(...batch.map((pair) => pair.candidate.length));
        return (longest - candidate.words.join(" ").length) / 1e4;
      }),
    ),
  ],
  "score/concurrent": [
    mutation(
      "calls share one buffer of results",
      /call \d+, pairs\[\d\] and the same pair before: .* differ/,
      (toy) => {
        let shared: PairScore[] = [];
        after(toy.methods, "score", async (reply) => {
          shared = reply.results;
          await new Promise((resolve) => setTimeout(resolve, 30));
          reply.results = reply.results.map((own, i) => shared[i] ?? own);
          return reply;
        });
      },
    ),
  ],
  "score/identical": [
    mutation(
      "candidate and reference are embedded by different layers",
      /of a text and itself, and 1 .* differ/,
      (toy) => scores(toy, () => -0.1),
    ),
  ],
  "score/symmetry": [
    mutation(
      "precision and recall are exchanged, in one place only",
      /precision and recall turned: .* differ/,
      (toy) => {
        const { pairScore } = toy;
        toy.pairScore = (...call) => {
          const right = pairScore(...call);
          return { ...right, recall: right.precision };
        };
      },
    ),
  ],
  "score/references": [
    mutation(
      "only the first reference is read",
      /with several references and the best over single ones: .* differ/,
      (toy) => {
        const { score } = toy.methods;
        toy.methods.score = (request, call) => {
          const pairs = request.pairs.map((pair) => ({ ...pair, references: pair.references.slice(0, 1) }));
          return score({ ...request, pairs }, call);
        };
      },
    ),
  ],
  "score/layers": [
    mutation("the layer is not looked at", /f1 at layer 0 and among all: .* differ/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = (request, call) => {
        const options = request.options && { ...request.options, layer: undefined };
        return score({ ...request, options }, call);
      };
    }),
    mutation("all_layers leaves out the embedding", /results\[0\]\.layers has 2, not 3/, (toy) =>
      results(toy, (all) => {
        for (const each of all) each.layers.shift();
      }),
    ),
  ],
  "score/any-text": [
    mutation("an empty text is an internal error", /INTERNAL/, (toy) => {
      const { pairScore } = toy;
      toy.pairScore = (candidate, ...rest) => {
        if (candidate.words.length === 2) throw new RangeError("division by zero");
        return pairScore(candidate, ...rest);
      };
    }),
  ],
  "score/idf": [
    mutation("idf is not looked at", /idf = true changed nothing/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = (request, call) => score({ ...request, options: undefined }, call);
    }),
    mutation(
      "the hash does not tell that idf was used",
      /the hash is toy_L2_no-idf with idf and without/,
      (toy) => {
        after(toy.methods, "score", (reply) => ({ ...reply, hash: reply.hash.replace("_idf", "_no-idf") }));
      },
    ),
  ],
  "score/hash": [
    mutation("the hash names the model only", /the hash is toy at layer 0 and at 2/, (toy) => {
      after(toy.methods, "score", (reply) => ({ ...reply, hash: "toy" }));
    }),
  ],
  "score/length": [
    mutation(
      "a long text is cut and nothing says so",
      /truncated is false for a text that is too long/,
      (toy) =>
        results(toy, (all) => {
          for (const each of all) each.truncated = false;
        }),
    ),
    mutation("candidate_tokens counts the uncut text", /candidate_tokens is 999, max_tokens is 64/, (toy) =>
      results(toy, (all) => {
        for (const each of all) if (each.truncated) each.candidateTokens = 999;
      }),
    ),
  ],
  "score/rescale": [
    mutation(
      "rescaling without a baseline is left out silently",
      /rescale without a baseline: it was accepted/,
      (toy) => {
        const { score } = toy.methods;
        toy.methods.score = (request, call) => {
          const options = request.options && { ...request.options, rescale: false };
          return score({ ...request, options }, call);
        };
      },
    ),
    mutation("there is a baseline and it is not applied", /rescale = true changed nothing/, (toy) => {
      toy.baseline = 0;
    }),
  ],
  "explain/agrees": [
    mutation("the matrix is transposed", /similarity is \[\d+, \d+\] for \d+ and \d+ tokens/, (toy) => {
      after(toy.methods, "explain", (reply) => {
        reply.similarity!.shape.reverse();
        return reply;
      });
    }),
    mutation(
      "special tokens have a weight",
      /mean best match of the candidate and precision: .* differ/,
      (toy) => {
        after(toy.methods, "explain", (reply) => {
          for (const token of reply.candidateTokens) token.weight = 1;
          return reply;
        });
      },
    ),
    mutation("Explain scores at another layer", /f1 of Explain and of Score: .* differ/, (toy) => {
      const { explain } = toy.methods;
      toy.methods.explain = (request, call) => explain({ ...request, options: { layer: 0 } as never }, call);
    }),
  ],
  "errors/empty": [
    mutation("no pairs give no results", /no pairs: it was accepted/, unchecked(/^pairs$/)),
    mutation("a wrong field is UNKNOWN", /expected INVALID_ARGUMENT, got UNKNOWN/, asUnknown),
  ],
  "errors/references": [
    mutation(
      "a pair without references scores -Infinity",
      /no references: it was accepted/,
      unchecked(/references$/),
    ),
    mutation(
      "the place of the pair is not told",
      /expected a violation of pairs\[1\]\.references, got pairs/,
      renamed(/references$/, "pairs"),
    ),
  ],
  "errors/layer": [
    mutation(
      "a layer that is not there falls back to the last",
      /layer -1: it was accepted/,
      unchecked(/layer$/),
    ),
    mutation(
      "a layer that is not there is NOT_FOUND",
      /layer -1: expected INVALID_ARGUMENT, got NOT_FOUND/,
      otherStatus(status.INVALID_ARGUMENT, status.NOT_FOUND),
    ),
  ],
  "errors/model": [
    mutation("the model's name is not looked at", /an unknown model: it was accepted/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = (request, call) => score({ ...request, model: undefined }, call);
    }),
  ],
  "errors/all-layers": [
    mutation(
      "all_layers is left out silently",
      /Explain with all_layers: it was accepted/,
      unchecked(/all_layers$/),
    ),
    mutation("an exception somewhere inside", /expected INVALID_ARGUMENT, got INTERNAL/, (toy) => {
      const { explain } = toy.methods;
      toy.methods.explain = async (request, call) => {
        if (request.options?.allLayers) throw new TypeError("layer is not a number");
        return explain(request, call);
      };
    }),
  ],
  "limits/items": [
    mutation("one pair less is taken than GetInfo says", /pairs: has more than 31 items/, (toy) => {
      toy.most.items = 31;
    }),
    mutation("more pairs are taken than GetInfo says", /33 pairs: it was accepted/, (toy) => {
      toy.most.items = 1000;
    }),
  ],
  "limits/references": [
    mutation("one reference less is taken than GetInfo says", /references: has more than 7 items/, (toy) => {
      toy.most.references = 7;
    }),
    mutation("more references are taken than GetInfo says", /9 references: it was accepted/, (toy) => {
      toy.most.references = 1000;
    }),
  ],
  "limits/text": [
    mutation("longer texts are read than GetInfo says", /a text of 4097 bytes: it was accepted/, (toy) => {
      toy.most.textBytes = 1e9;
    }),
    mutation("a long text fails somewhere inside", /expected INVALID_ARGUMENT, got INTERNAL/, (toy) => {
      toy.most.textBytes = 1e9;
      const { score } = toy.methods;
      toy.methods.score = async (request, call) => {
        if (request.pairs.some(({ candidate }) => candidate.length > 2000 && candidate.endsWith("ée")))
          throw new RangeError("offset is out of bounds");
        return score(request, call);
      };
    }),
  ],
};
