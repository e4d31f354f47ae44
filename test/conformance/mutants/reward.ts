/** @file Mistakes of a reward server, by the check that must catch them. */
import { status } from "@grpc/grpc-js";
import { ScoreFunction, type TextScore } from "../../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { Refusal } from "../toy/refusal.js";
import type { RewardToy } from "../toy/reward.js";
import { commonMutants } from "./common.js";
import { otherStatus, renamed, unchecked } from "./fields.js";
import { after, type Mutants, mutation } from "./mutation.js";

/** Changes the results of Score. */
function results(toy: RewardToy, change: (results: TextScore[]) => void): void {
  after(toy.methods, "score", (reply) => {
    change(reply.results);
    return reply;
  });
}

/** Mistakes of a reward server. */
export const rewardMutants: Mutants<RewardToy> = {
  ...commonMutants<RewardToy>({
    typeName: "rlhf.reward.v1.RewardService",
    file: "rlhf/reward/v1/reward.proto",
    itemsLimit: "max_items",
  }),
  "info/labels": [
    mutation("no labels are listed", /labels is empty/, (toy) => {
      after(toy.methods, "getInfo", (reply) => ({ ...reply, labels: [] }));
    }),
    mutation(
      "the default label has another name than its label",
      /default_label is "LABEL_1", labels are/,
      (toy) => {
        after(toy.methods, "getInfo", (reply) => ({ ...reply, defaultLabel: "LABEL_1" }));
      },
    ),
    mutation("the default function is not named", /default_function is not set/, (toy) => {
      after(toy.methods, "getInfo", (reply) => ({ ...reply, defaultFunction: ScoreFunction.UNSPECIFIED }));
    }),
  ],
  "score/batch": [
    mutation("a score is NaN", /results\[\d\]\.reward is NaN/, (toy) =>
      results(toy, ([first]) => {
        first!.reward = Number.NaN;
      }),
    ),
    mutation("a reward that is 0 is left out", /results\[\d\]\.reward is not set/, (toy) =>
      results(toy, ([first]) => {
        delete first!.reward;
      }),
    ),
    mutation("empty texts are filtered out of the reply", /8 texts gave 7 results/, (toy) =>
      results(toy, (all) => void all.pop()),
    ),
    mutation("only the best label is given", /has labels \w+; GetInfo lists curt, kind/, (toy) =>
      results(toy, (all) => {
        for (const each of all) each.scores = each.scores.slice(0, 1);
      }),
    ),
    mutation("the reward is that of another label", /reward and score of its label: .* differ/, (toy) =>
      results(toy, (all) => {
        for (const each of all) each.reward = each.scores[0]!.score;
      }),
    ),
    mutation("logits are not given", /not finite|differ/, (toy) =>
      results(toy, (all) => {
        for (const score of all.flatMap(({ scores }) => scores)) score.logit = Number.NEGATIVE_INFINITY;
      }),
    ),
  ],
  "score/version": [
    mutation("the reply does not name its model", /model is empty/, (toy) => {
      after(toy.methods, "score", (reply) => ({ ...reply, model: "" }));
    }),
    mutation("the reply does not name its weights", /weights is not set/, (toy) => {
      after(toy.methods, "score", (reply) => ({ ...reply, weights: undefined }));
    }),
    mutation(
      "the reply names other weights than GetInfo",
      /weights is version 7 .*, GetInfo says 0/,
      (toy) => {
        after(toy.methods, "score", (reply) => {
          reply.weights!.version = 7n;
          return reply;
        });
      },
    ),
  ],
  "score/order": [
    mutation(
      "texts are sorted by length for the model, results are not sorted back",
      /in reverse order: .* differ/,
      (toy) => results(toy, (all) => void all.sort((a, b) => a.tokenCount - b.tokenCount)),
    ),
  ],
  "score/padding": [
    mutation("padding is not masked", /reward of texts\[\d\] alone and in a batch: .* differ/, (toy) => {
      const { logits } = toy;
      toy.logits = (text, pair, batch) => {
        const longest = Math.max(...batch.map(({ length }) => length));
        return logits(text, pair, batch).map((logit, i) => logit + (i * (longest - text.length)) / 1e4);
      };
    }),
    mutation(
      "padding shifts all logits alike, which softmax hides",
      /logit of curt of texts\[\d\] alone and in a batch: .* differ/,
      (toy) => {
        const { logits } = toy;
        toy.logits = (text, pair, batch) => {
          const longest = Math.max(...batch.map(({ length }) => length));
          return logits(text, pair, batch).map((logit) => logit + (longest - text.length) / 1e3);
        };
      },
    ),
    mutation("dropout is left on", /reward of texts\[\d\] alone and in a batch: .* differ/, (toy) => {
      const { logits } = toy;
      toy.logits = (...row) => logits(...row).map((logit) => logit * (0.95 + Math.random() / 10));
    }),
  ],
  "score/concurrent": [
    mutation(
      "calls share one buffer of results",
      /call \d+, texts\[\d\] and the same text before: .* differ/,
      (toy) => {
        let shared: TextScore[] = [];
        after(toy.methods, "score", async (reply) => {
          shared = reply.results;
          await new Promise((resolve) => setTimeout(resolve, 30));
          reply.results = reply.results.map((own, i) => shared[i] ?? own);
          return reply;
        });
      },
    ),
  ],
  "score/any-text": [
    mutation("an empty text is refused", /texts\[0\]: is empty/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = async (request, call) => {
        const at = request.texts.findIndex((text) => text.trim() === "");
        if (at < 0) return score(request, call);
        const violations = [{ field: `texts[${at}]`, description: "is empty" }];
        throw new Refusal(status.INVALID_ARGUMENT, `texts[${at}]: is empty`, "EMPTY", violations);
      };
    }),
    mutation("a control character fails the tokenizer", /INTERNAL/, (toy) => {
      const { logits } = toy;
      toy.logits = (text, ...rest) => {
        if (text.includes("\u0000")) throw new Error("unexpected end of string");
        return logits(text, ...rest);
      };
    }),
  ],
  "score/pairs": [
    mutation(
      "text_pairs are not read",
      /same with a text_pair and without: text_pairs are not read/,
      (toy) => {
        const { logits } = toy;
        toy.logits = (text, _pair, batch) => logits(text, undefined, batch);
      },
    ),
    mutation("too many pairs are taken", /4 pairs for 3 texts: it was accepted/, unchecked(/^text_pairs$/)),
  ],
  "score/functions": [
    mutation("the function is not looked at", /function none: the reply says SOFTMAX/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = (request, call) => score({ ...request, function: ScoreFunction.SOFTMAX }, call);
    }),
    mutation(
      "sigmoid is applied where softmax is named",
      /function softmax: results\[\d\] label \w+: .* differ/,
      (toy) =>
        after(toy.methods, "score", (reply) => {
          for (const score of reply.results.flatMap(({ scores }) => scores)) {
            if (reply.function === ScoreFunction.SOFTMAX) score.score = 1 / (1 + Math.exp(-score.logit));
          }
          return reply;
        }),
    ),
    mutation("none gives probabilities", /function none: results\[\d\] label \w+: .* differ/, (toy) =>
      after(toy.methods, "score", (reply) => {
        for (const score of reply.results.flatMap(({ scores }) => scores)) {
          if (reply.function === ScoreFunction.NONE) score.score = 1 / (1 + Math.exp(-score.logit));
        }
        return reply;
      }),
    ),
  ],
  "score/label": [
    mutation("the label is not looked at", /label "curt": the reply says kind/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = (request, call) => score({ ...request, label: undefined }, call);
    }),
    mutation("labels are known by name only", /label/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = (request, call) =>
        score({ ...request, label: request.label === "0" ? "no such label" : request.label }, call);
    }),
    mutation("the reward stays that of the default label", /label "curt": results\[\d\]: .* differ/, (toy) =>
      results(toy, (all) => {
        for (const each of all) each.reward = each.scores.at(-1)!.score;
      }),
    ),
  ],
  "score/length": [
    mutation(
      "long texts are cut without being asked",
      /a text of more than 64 tokens: it was accepted/,
      unchecked(/^texts\[\d+\]$/),
    ),
    mutation("truncated is never set", /truncated is false for a text that is too long/, (toy) =>
      results(toy, (all) => {
        for (const each of all) each.truncated = false;
      }),
    ),
    mutation("truncated says that truncate was asked for", /truncated is true for a text that fits/, (toy) =>
      after(toy.methods, "score", (reply, { truncate }) => {
        for (const each of reply.results) each.truncated = truncate ?? false;
        return reply;
      }),
    ),
    mutation("token_count is that of the uncut text", /token_count is 1000, max_tokens is 64/, (toy) =>
      results(toy, (all) => {
        for (const each of all) if (each.truncated) each.tokenCount = 1000;
      }),
    ),
    mutation("token_count is the padded length", /token_count is 64 for one word and 64/, (toy) =>
      results(toy, (all) => {
        const longest = Math.max(...all.map(({ tokenCount }) => tokenCount));
        for (const each of all) each.tokenCount = longest;
      }),
    ),
  ],
  "errors/empty": [
    mutation("no texts give no results", /no texts: it was accepted/, unchecked(/^texts$/)),
    mutation("no field is named", /without a BadRequest detail that names texts/, (toy) => {
      toy.habits.refuse = ({ code, message }) => ({ code, details: message });
    }),
  ],
  "errors/label": [
    mutation("an unknown label falls back to the default", /an unknown label: it was accepted/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = (request, call) =>
        score({ ...request, label: request.label === "no such label" ? undefined : request.label }, call);
    }),
    mutation(
      "the field has the name that it has in code",
      /expected a violation of label, got request\.label/,
      renamed(/^label$/, "request.label"),
    ),
  ],
  "errors/enum": [
    mutation("an unknown function falls back to the default", /function 99: it was accepted/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = (request, call) =>
        score({ ...request, function: ScoreFunction[request.function] ? request.function : 0 }, call);
    }),
    mutation(
      "an unknown function is an internal error",
      /function 99: expected INVALID_ARGUMENT, got INTERNAL/,
      (toy) => {
        const { score } = toy.methods;
        toy.methods.score = (request, call) => {
          if (!ScoreFunction[request.function]) throw new TypeError("apply is not a function");
          return score(request, call);
        };
      },
    ),
  ],
  "errors/model": [
    mutation("the model's name is not looked at", /an unknown model: it was accepted/, (toy) => {
      const { score } = toy.methods;
      toy.methods.score = (request, call) => score({ ...request, model: undefined }, call);
    }),
    mutation(
      "another model is INVALID_ARGUMENT",
      /expected NOT_FOUND, got INVALID_ARGUMENT/,
      otherStatus(status.NOT_FOUND, status.INVALID_ARGUMENT),
    ),
  ],
  "limits/items": [
    mutation("one text less is taken than GetInfo says", /texts: has more than 31 items/, (toy) => {
      toy.most.items = 31;
    }),
    mutation("more texts are taken than GetInfo says", /33 texts: it was accepted/, (toy) => {
      toy.most.items = 1000;
    }),
  ],
  "limits/text": [
    mutation("longer texts are read than GetInfo says", /a text of 4097 bytes: it was accepted/, (toy) => {
      toy.most.textBytes = 1e9;
    }),
    mutation(
      "the limit is kept in characters of UTF-16, not in bytes",
      /a text of 4097 bytes: it was accepted/,
      (toy) => {
        toy.most.textBytes = 8192;
      },
    ),
    mutation("shorter texts only are read than GetInfo says", /texts\[0\]: has 4096 bytes/, (toy) => {
      toy.most.textBytes = 1000;
    }),
  ],
};
