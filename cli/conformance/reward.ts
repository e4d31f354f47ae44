/** @file Checks of a reward server: proto/rlhf/reward/v1. Texts in, one reward each out, whatever they are batched with. */
import {
  type GetInfoResponse,
  RewardService,
  ScoreFunction,
  type ScoreResponse,
  type TextScore,
} from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { RpcError } from "../../lib/rpc/index.js";
import { type Check, largest, must, mustBeNear, needs, ofBytes } from "./check.js";
import { type Described, mustBeWeightsOf } from "./info.js";
import { mustRefuse, type Subject, Target, type TargetOptions } from "./target.js";

/** How far rewards of the same text may be apart, and logits. */
const SAME = 1e-5;
const SAME_LOGIT = 1e-4;

/** Texts of all lengths and alphabets. */
const TEXTS = [
  "Thank you, that answers my question.",
  "no",
  "The shop opens at nine on weekdays and at ten on Saturdays; on Sundays it is closed, except in December.",
  "I do not know, and I do not care!",
  "Straße, naïve, 東京, Привет, 😀",
  "You can renew a loan twice, by telephone or on the web site, unless somebody else has asked for the book.",
  "x",
  "Ask at the desk.",
];

/** Labels that are tried; a model may have hundreds. */
const MOST_LABELS = 8;

let made = 0;
/** A text that was never sent before, of about `words` words. */
const unique = (words: number) =>
  `${++made} ${Array.from({ length: words }, (_, i) => `word${(made * 31 + i * 7) % 997}`).join(" ")}`;

/** What the checks that fit every service must know of this one. */
const rewardSubject: Subject = {
  desc: RewardService,
  probe: () => ({ method: "score", request: { texts: ["a kind answer"] } }),
  work: (size) => ({
    method: "score",
    request: { texts: Array.from({ length: size }, () => unique(48)), truncate: true },
  }),
  itemsLimit: "max_items",
  queueLimit: "max_queue_items",
  runningLimit: "max_batch_items",
  refused: () => ({ method: "score", request: { texts: [] } }),
};

/** A reward server under test. */
export class RewardTarget extends Target implements Described {
  constructor(
    address: string,
    options: TargetOptions,
    readonly info: GetInfoResponse | undefined,
  ) {
    super(address, rewardSubject, options, info?.server);
  }

  get reward() {
    return this.client(RewardService);
  }

  /** Texts of all lengths and alphabets, as many as one call may have. */
  get texts(): string[] {
    return this.few(TEXTS);
  }
}

/** Checks of Score and of a reward server's GetInfo. */
export const rewardChecks: readonly Check<RewardTarget>[] = [
  {
    id: "info/labels",
    what: "GetInfo lists the labels, and the default among them",
    async run({ info }) {
      must(info !== undefined, "the server has no GetInfo");
      must(info.labels.length > 0, "labels is empty");
      must(new Set(info.labels).size === info.labels.length, `labels repeat: ${info.labels.join(", ")}`);
      must(
        info.labels.includes(info.defaultLabel),
        `default_label is ${JSON.stringify(info.defaultLabel)}, labels are ${info.labels.join(", ")}`,
      );
      must(
        info.defaultFunction !== ScoreFunction.UNSPECIFIED,
        "default_function is not set: name the one a request gets that names none",
      );
    },
  },
  {
    id: "score/batch",
    what: "Score gives one result a text, each with a finite reward and every label in order",
    async run(target) {
      const { texts } = target;
      const reply = await target.reward.score({ texts });
      mustHaveResults(reply, texts.length);
      const { info } = target;
      for (const [i, result] of reply.results.entries()) {
        const where = `results[${i}]`;
        const names = result.scores.map(({ label }) => label);
        if (info) {
          must(
            names.join("\n") === info.labels.join("\n"),
            `${where}.scores has labels ${names.join(", ")}; GetInfo lists ${info.labels.join(", ")}`,
          );
        }
        const chosen = result.scores.find(({ label }) => label === reply.label);
        must(chosen !== undefined, `${where}.scores has no label ${JSON.stringify(reply.label)}`);
        mustBeNear(result.reward as number, chosen.score, SAME, `${where}: reward and score of its label`);
        must(
          result.scores.every(({ score, logit }) => Number.isFinite(score) && Number.isFinite(logit)),
          `${where} has a score or logit that is not finite`,
        );
      }
    },
  },
  {
    id: "score/version",
    what: "Score names the model and the digest of the weights that answered",
    async run(target) {
      const reply = await target.reward.score({ texts: ["a"] });
      must(reply.model !== "", "model is empty");
      if (target.info) {
        must(
          reply.model === target.info.model?.name,
          `model is ${reply.model}, GetInfo says ${target.info.model?.name}`,
        );
      }
      mustBeWeightsOf(target.info, reply.weights, "weights");
    },
  },
  {
    id: "score/order",
    what: "results are in the order of the texts",
    async run(target) {
      const { texts } = target;
      needs(texts.length > 1, "max_items is 1");
      const there = await scored(target, texts);
      const back = await scored(target, texts.toReversed());
      needs(new Set(there.map(({ reward }) => reward)).size > 1, "every text has the same reward");
      for (const [i, score] of there.entries()) {
        mustBeAlike(back[texts.length - 1 - i], score, `texts[${i}] and in reverse order`);
      }
    },
  },
  {
    id: "score/padding",
    what: "a text scores the same alone and beside longer ones: reward within 1e-5, logits within 1e-4",
    async run(target) {
      const { texts } = target;
      const together = await scored(target, texts);
      const distances: number[] = [];
      for (const [i, text] of texts.entries()) {
        const [alone] = await scored(target, [text]);
        mustBeAlike(alone, together[i], `texts[${i}] alone and in a batch`);
        distances.push(Math.abs((alone?.reward as number) - (together[i]?.reward as number)));
      }
      return `largest difference ${largest(distances)}`;
    },
  },
  {
    id: "score/concurrent",
    what: "calls at the same time each get their own results",
    async run(target) {
      const { texts } = target;
      const batches = Array.from({ length: 24 }, (_, i) =>
        rotated(texts, i).slice(0, 1 + (i % texts.length)),
      );
      const expected = await scored(target, texts);
      const all = await Promise.all(batches.map((batch) => scored(target, batch)));
      for (const [i, got] of all.entries()) {
        for (const [j, score] of got.entries()) {
          const before = expected[(i + j) % texts.length];
          mustBeAlike(score, before, `call ${i}, texts[${j}] and the same text before`);
        }
      }
    },
  },
  {
    id: "score/any-text",
    what: "an empty text, white space, control characters and emoji are texts like others",
    async run(target) {
      const odd = target.few([
        "",
        " ",
        "\n\t\r\n",
        "\u0000\u0001",
        "\u202eabc",
        "👩‍👩‍👧‍👦",
        "a".repeat(60),
        "\ufffd\ufeff",
      ]);
      mustHaveResults(await target.reward.score({ texts: odd, truncate: true }), odd.length);
    },
  },
  {
    id: "score/pairs",
    what: "text_pairs are read with their texts, or refused by name; another number of them is refused",
    async run(target) {
      const texts = target.few(TEXTS.slice(0, 3));
      const call = target.reward.score({ texts, textPairs: [...texts, "one more"] });
      await mustRefuse(
        call,
        `${texts.length + 1} pairs for ${texts.length} texts`,
        "INVALID_ARGUMENT",
        "text_pairs",
      );
      const paired = target.reward.score({ texts, textPairs: TEXTS.slice(-texts.length) });
      const reply = await unlessRefused(paired, "text_pairs", "the server takes no text_pairs, and says so");
      mustHaveResults(reply, texts.length);
      const alone = await scored(target, texts);
      const logits = (score: TextScore | undefined) => score?.scores.map(({ logit }) => logit).join();
      must(
        reply.results.some((paired, i) => logits(paired) !== logits(alone[i])),
        "every text scores the same with a text_pair and without: text_pairs are not read",
      );
    },
  },
  {
    id: "score/functions",
    what: "the score function that was asked for is applied and named, or refused by name; none is ever replaced",
    async run(target) {
      const { texts } = target;
      const refused: string[] = [];
      for (const [name, fn] of FUNCTIONS) {
        const reply = await refusedFor(target.reward.score({ texts, function: fn }), "function");
        if (reply === undefined) {
          refused.push(name);
          continue;
        }
        const { results, function: applied } = reply;
        must(applied === fn, `function ${name}: the reply says ${ScoreFunction[applied] ?? applied}`);
        for (const [i, { scores }] of results.entries()) {
          const expected = SCORES[name](scores.map(({ logit }) => logit));
          for (const [j, { score, label }] of scores.entries()) {
            mustBeNear(score, expected[j] as number, SAME, `function ${name}: results[${i}] label ${label}`);
          }
        }
      }
      needs(refused.length < FUNCTIONS.length, "the server refuses every score function by name");
      return refused.length > 0 ? `refused: ${refused.join(", ")}` : undefined;
    },
  },
  {
    id: "score/label",
    what: "a request chooses its label by name or index",
    async run(target) {
      must(target.info !== undefined, "the server has no GetInfo that lists labels");
      for (const [index, name] of target.info.labels.slice(0, MOST_LABELS).entries()) {
        for (const label of [name, String(index)]) {
          const reply = await target.reward.score({ texts: target.texts.slice(0, 2), label });
          must(reply.label === name, `label ${JSON.stringify(label)}: the reply says ${reply.label}`);
          for (const [i, { reward, scores }] of reply.results.entries()) {
            const score = scores[index]?.score as number;
            mustBeNear(reward as number, score, SAME, `label ${JSON.stringify(label)}: results[${i}]`);
          }
        }
      }
    },
  },
  {
    id: "score/length",
    what: "a text that is too long fails the whole call by name, or is cut and says so",
    async run(target) {
      const max = target.info?.model?.maxTokens ?? 0;
      needs(max > 0, "GetInfo publishes no model.max_tokens");
      const bytes = target.limit("max_text_bytes") ?? Number.POSITIVE_INFINITY;
      const long = Array.from({ length: max + 1 }, (_, i) => `w${i % 9}`).join(" ");
      needs(long.length <= bytes, "max_text_bytes is reached before max_tokens");
      const texts = target.few([long, "short"]).reverse();
      const at = texts.length - 1;
      const call = target.reward.score({ texts });
      await mustRefuse(call, `a text of more than ${max} tokens`, "INVALID_ARGUMENT", `texts[${at}]`);
      const { results } = await target.reward.score({ texts, truncate: true });
      for (const [i, { truncated, tokenCount }] of results.entries()) {
        const is = i === at;
        must(
          truncated === is,
          `truncate = true: results[${i}].truncated is ${truncated} for a text that ${is ? "is too long" : "fits"}`,
        );
        must(
          tokenCount <= max,
          `truncate = true: results[${i}].token_count is ${tokenCount}, max_tokens is ${max}`,
        );
      }
      if (at > 0) {
        const [short, cut] = results as [TextScore, TextScore];
        must(
          short.tokenCount < cut.tokenCount,
          `token_count is ${short.tokenCount} for one word and ${cut.tokenCount} for a text that was cut`,
        );
      }
    },
  },
  {
    id: "errors/empty",
    what: "a call without texts is refused, naming texts",
    async run(target) {
      await mustRefuse(target.reward.score({ texts: [] }), "no texts", "INVALID_ARGUMENT", "texts");
    },
  },
  {
    id: "errors/label",
    what: "a label that the model does not have is refused, naming label",
    async run(target) {
      const call = target.reward.score({ texts: ["a"], label: "no such label" });
      await mustRefuse(call, "an unknown label", "INVALID_ARGUMENT", "label");
    },
  },
  {
    id: "errors/enum",
    what: "a score function without a name is refused, naming function",
    async run(target) {
      const call = target.reward.score({ texts: ["a"], function: 99 as ScoreFunction });
      await mustRefuse(call, "function 99", "INVALID_ARGUMENT", "function");
    },
  },
  {
    id: "errors/model",
    what: "another model than the one served is NOT_FOUND",
    async run(target) {
      const call = target.reward.score({ texts: ["a"], model: "no such model" });
      await mustRefuse(call, "an unknown model", "NOT_FOUND");
    },
  },
  {
    id: "limits/items",
    what: "limits[max_items] texts are accepted, one more is refused, naming texts",
    async run(target) {
      const most = target.neededLimit("max_items");
      const texts = Array.from({ length: most }, (_, i) => `t${i % 5}`);
      mustHaveResults(await target.reward.score({ texts }), most);
      const call = target.reward.score({ texts: [...texts, "one more"] });
      await mustRefuse(call, `${most + 1} texts`, "INVALID_ARGUMENT", "texts");
    },
  },
  {
    id: "limits/text",
    what: "a text of limits[max_text_bytes] is read, a longer one is refused, naming it",
    async run(target) {
      const most = target.neededLimit("max_text_bytes");
      const { score } = target.reward;
      mustHaveResults(await score({ texts: [ofBytes(most)], truncate: true }), 1);
      const texts = target.few([ofBytes(most + 1), "short"]).reverse();
      const call = score({ texts, truncate: true });
      await mustRefuse(call, `a text of ${most + 1} bytes`, "INVALID_ARGUMENT", `texts[${texts.length - 1}]`);
    },
  },
];

/** A reply; undefined where the call was refused for a field. */
async function refusedFor<T>(call: Promise<T>, field: string): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    const named =
      error instanceof RpcError && error.violations.some((violation) => violation.field === field);
    if (named && error.status === "INVALID_ARGUMENT") return undefined;
    throw error;
  }
}

/** A reply; leaves the check open where the call was refused for a field. */
async function unlessRefused<T>(call: Promise<T>, field: string, why: string): Promise<T> {
  const reply = await refusedFor(call, field);
  needs(reply !== undefined, why);
  return reply;
}

const FUNCTIONS = [
  ["none", ScoreFunction.NONE],
  ["sigmoid", ScoreFunction.SIGMOID],
  ["softmax", ScoreFunction.SOFTMAX],
] as const;

const SCORES = {
  none: (logits: readonly number[]) => [...logits],
  sigmoid: (logits: readonly number[]) => logits.map((logit) => 1 / (1 + Math.exp(-logit))),
  softmax: (logits: readonly number[]) => {
    const most = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - most));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  },
};

async function scored(target: RewardTarget, texts: readonly string[]): Promise<TextScore[]> {
  const reply = await target.reward.score({ texts: [...texts] });
  mustHaveResults(reply, texts.length);
  return reply.results;
}

/** Fails unless two scores of the same text are the same; logits tell what a reward near 0 or 1 hides. */
function mustBeAlike(a: TextScore | undefined, b: TextScore | undefined, what: string): void {
  mustBeNear(a?.reward as number, b?.reward as number, SAME, `reward of ${what}`);
  for (const [i, { label, logit }] of (a as TextScore).scores.entries()) {
    mustBeNear(logit, b?.scores[i]?.logit as number, SAME_LOGIT, `logit of ${label} of ${what}`);
  }
}

function mustHaveResults({ results }: ScoreResponse, count: number): void {
  must(results.length === count, `${count} texts gave ${results.length} results`);
  for (const [i, { reward }] of results.entries()) {
    must(reward !== undefined, `results[${i}].reward is not set; a reward of 0 must be set too`);
    must(Number.isFinite(reward), `results[${i}].reward is ${reward}`);
  }
}

function rotated<T>(items: readonly T[], by: number): T[] {
  return items.map((_, i) => items[(i + by) % items.length] as T);
}
