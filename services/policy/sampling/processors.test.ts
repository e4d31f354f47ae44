import assert from "node:assert/strict";
import { resolveOptions } from "./options.js";
import { logitsPipeline } from "./pipeline.js";
import * as processors from "./processors.js";
import { TokenHistory } from "./token-history.js";

const Z = [2, 1, 0.5, -0.5, -1, 0]; // the row of the specification's known answers
const X = Number.NEGATIVE_INFINITY;

function apply(
  processor: processors.LogitsProcessor,
  history: TokenHistory,
  row: readonly number[] = Z,
): number[] {
  const logits = Float32Array.from(row);
  processor(logits, history);
  return [...logits];
}

function historyOf(prompt: number[], generated: number[] = []): TokenHistory {
  const history = new TokenHistory(prompt);
  for (const id of generated) history.push(id);
  return history;
}

function bannedIds(row: readonly number[]): number[] {
  return row.flatMap((z, id) => (z === X ? [id] : []));
}

describe("logits processors", () => {
  it("repetition penalty divides positive and multiplies negative logits, once for each id present", () => {
    assert.deepEqual(apply(processors.repetitionPenalty(2), historyOf([0, 3, 3, 5])), [1, 1, 0.5, -1, -1, 0]);
    assert.deepEqual(
      apply(processors.repetitionPenalty(2), historyOf([0, 3], [3, 5])),
      [1, 1, 0.5, -1, -1, 0],
    );
    assert.deepEqual(apply(processors.repetitionPenalty(2), historyOf([0, 99])), [1, 1, 0.5, -0.5, -1, 0]); // id ≥ V
  });

  it("no-repeat n-gram bans what would complete an n-gram seen before", () => {
    assert.deepEqual(bannedIds(apply(processors.noRepeatNgram(2), historyOf([1, 2, 3, 1, 2]))), [3]);
    assert.deepEqual(bannedIds(apply(processors.noRepeatNgram(1), historyOf([1, 2]))), [1, 2]);
    assert.deepEqual(bannedIds(apply(processors.noRepeatNgram(3), historyOf([1, 2]))), []); // fewer than n ids
    assert.deepEqual(bannedIds(apply(processors.noRepeatNgram(3), historyOf([4, 5, 0, 4, 5]))), [0]);
    assert.deepEqual(bannedIds(apply(processors.noRepeatNgram(2), historyOf([5, 5]))), [5]);
  });

  it("bad words ban single ids always and longer entries by their last id", () => {
    const rule = processors.badWords([[4], [1, 2, 3], [5]], [5]);
    assert.deepEqual(bannedIds(apply(rule, historyOf([0]))), [4]); // [5] is the EOS and is dropped
    assert.deepEqual(bannedIds(apply(rule, historyOf([0, 1, 2]))), [3, 4]);
    assert.deepEqual(bannedIds(apply(rule, historyOf([2]))), [4]); // prefix longer than the row
  });

  it("min_length counts the prompt, min_new_tokens does not", () => {
    assert.deepEqual(bannedIds(apply(processors.minLength(4, [0, 5]), historyOf([1, 1, 1]))), [0, 5]);
    assert.deepEqual(bannedIds(apply(processors.minLength(4, [0]), historyOf([1, 1, 1], [2]))), []);
    assert.deepEqual(bannedIds(apply(processors.minNewTokens(2, [0]), historyOf([1, 1, 1], [2]))), [0]);
    assert.deepEqual(bannedIds(apply(processors.minNewTokens(2, [0]), historyOf([1], [2, 2]))), []);
    assert.deepEqual(bannedIds(apply(processors.minNewTokens(2, [-1, 77]), historyOf([1]))), []); // not found
  });

  it("forced ids leave nothing else", () => {
    assert.deepEqual(apply(processors.forcedBos(3), historyOf([0])), [X, X, X, 0, X, X]);
    assert.deepEqual(apply(processors.forcedBos(3), historyOf([0, 1])), Z);
    assert.deepEqual(apply(processors.forcedEos([4], 3), historyOf([0], [1, 1])), [X, X, X, X, 0, X]);
    assert.deepEqual(apply(processors.forcedEos([4], 3), historyOf([0], [1])), Z);
  });

  it("suppress bans always, begin-suppress at the first generated position", () => {
    assert.deepEqual(bannedIds(apply(processors.suppressTokens([1, 99]), historyOf([0], [1]))), [1]);
    assert.deepEqual(bannedIds(apply(processors.beginSuppressTokens([1]), historyOf([0]))), [1]);
    assert.deepEqual(bannedIds(apply(processors.beginSuppressTokens([1]), historyOf([0], [2]))), []);
  });

  it("invalid values become finite", () => {
    const row = apply(processors.removeInvalidValues, historyOf([0]), [Number.NaN, Infinity, X, 1]);
    assert.deepEqual(row, [0, 3.4028234663852886e38, -3.4028234663852886e38, 1]);
  });

  it("the decay raises end of sequence once the start is passed", () => {
    const rule = processors.exponentialDecayLength(1, 2, [0, 3]);
    assert.deepEqual(apply(rule, historyOf([1], [1])), Z);
    // one token past the start: z + |z| (2 − 1); −0.5 rises to 0
    assert.deepEqual(apply(rule, historyOf([1], [1, 1])), [4, 1, 0.5, 0, -1, 0]);
  });

  it("the pipeline holds only what is switched on, and sampling rules only when sampling", () => {
    const bounds = { vocabSize: 6, maxTokens: 32 };
    const greedy = resolveOptions({ temperature: 0.5, topK: 2, topP: 0.5 }, {}, 3, bounds);
    assert.equal(logitsPipeline(greedy).length, 0);
    assert.equal(logitsPipeline(resolveOptions({ doSample: true }, {}, 3, bounds)).length, 1); // top_k 50
    const noEos = resolveOptions({ minNewTokens: 4, ignoreEos: true }, { eosTokenIds: [0] }, 3, bounds);
    assert.equal(logitsPipeline(noEos).length, 0);
    assert.equal(
      logitsPipeline(resolveOptions({ minNewTokens: 4 }, { eosTokenIds: [0] }, 3, bounds)).length,
      1,
    );
  });

  it("the pipeline penalises repetition before it bans n-grams, and scales before it filters", () => {
    const bounds = { vocabSize: 6, maxTokens: 32 };
    const options = resolveOptions(
      { doSample: true, repetitionPenalty: 2, noRepeatNgramSize: 2, temperature: 0.5, topK: 2 },
      {},
      5,
      bounds,
    );
    const logits = Float32Array.from(Z);
    const history = historyOf([0, 3, 0]);
    for (const step of logitsPipeline(options)) step(logits, history);
    // penalty: 1 1 .5 -1 -1 0; bigram 0→3 banned; ×2: 2 2 1 x -2 0; the two largest stay
    assert.deepEqual([...logits], [2, 2, X, X, X, X]);
  });
});
