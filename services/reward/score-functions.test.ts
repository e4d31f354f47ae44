import assert from "node:assert/strict";
import { defaultScoreFunction, labelScores, type ScoreFunction } from "./score-functions.js";

const TWO = ["LABEL_0", "LABEL_1"];

function assertScores(logits: number[], scoreFunction: ScoreFunction, expected: number[]): void {
  const scores = labelScores(logits, scoreFunction);
  assert.equal(scores.length, expected.length);
  for (const [i, value] of expected.entries()) assert.ok(Math.abs(scores[i] - value) < 1e-7, `${scores[i]}`);
}

describe("score functions", () => {
  it("give the pipeline's softmax and sigmoid", () => {
    assertScores([0.4366993, -0.125325], "softmax", [0.6369208, 0.3630792]);
    assertScores([0.4366993, -0.125325], "sigmoid", [0.6074722, 0.4687097]);
    assertScores([0.4366993, -0.125325], "none", [0.4366993, -0.125325]);
  });

  it("stay finite for extreme logits", () => {
    assertScores([1000, -1000], "softmax", [1, 0]);
    assertScores([1000, -1000], "sigmoid", [1, 0]);
    assertScores([-5], "softmax", [1]);
  });

  it("let NaN through, for the service to refuse", () => {
    assert.ok(labelScores([Number.NaN, 1], "softmax").every(Number.isNaN));
  });

  it("are chosen by the pipeline's rule, with none for regression", () => {
    assert.equal(defaultScoreFunction({ labels: TWO }), "softmax");
    assert.equal(defaultScoreFunction({ labels: ["LABEL_0"] }), "sigmoid");
    assert.equal(defaultScoreFunction({ labels: TWO, problemType: "multi_label_classification" }), "sigmoid");
    assert.equal(
      defaultScoreFunction({ labels: TWO, problemType: "single_label_classification" }),
      "softmax",
    );
    assert.equal(
      defaultScoreFunction({ labels: ["LABEL_0"], problemType: "single_label_classification" }),
      "sigmoid",
    );
    assert.equal(defaultScoreFunction({ labels: ["LABEL_0"], problemType: "regression" }), "none");
    assert.equal(defaultScoreFunction({ labels: TWO, problemType: "regression" }), "none");
  });
});
