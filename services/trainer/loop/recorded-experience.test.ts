import assert from "node:assert/strict";
import { join } from "node:path";
import { packageRoot } from "../../../lib/config/index.js";
import { loadTokenizer } from "../../../lib/tokenizer/index.js";
import { encodeExperience, tokenPieces } from "./recorded-experience.js";
import type { ScoredSample } from "./rollout-stage.js";

const row = (...values: number[]) => Float32Array.from(values);
const floatsOf = (text: string) => [...new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer)];

describe("the experience of a recorded batch", () => {
  it("stands with its sample, and is null for a sample that could not be scored", () => {
    const samples = [[1], [2, 3], [4]].map((response) => ({ response })) as unknown as ScoredSample[];
    const learned = [samples[0], samples[2]] as ScoredSample[];
    const rows = [row(0.5), row(-0.25)];
    const stored = encodeExperience(
      samples,
      learned,
      {
        scores: row(1, 2),
        logprobs: rows,
        nonScoreRewards: rows,
        rawAdvantages: rows,
        returns: rows,
        values: rows,
        rewards: rows,
        kl: rows,
        advantages: [row(1.5), row(-2)],
      },
      (ids) => ids.map((id) => `t${id}`),
    );
    assert.equal(stored[1], null);
    assert.deepEqual(stored[0]?.tokens, ["t1"]);
    assert.deepEqual(floatsOf(stored[2]?.advantages ?? ""), [-2]);
    assert.deepEqual(floatsOf(stored[2]?.kl ?? ""), [-0.25]);
  });
});

describe("the pieces of a text", () => {
  it("join to the text, a character of several tokens with the one that completes it", async () => {
    const tokenizer = await loadTokenizer(join(packageRoot(), "test", "golden", "gpt2-tiny"));
    const text = " größe 猫 <b>";
    const { ids } = tokenizer.encode(text, { addSpecialTokens: false });
    const pieces = tokenPieces(tokenizer, ids);
    assert.equal(pieces.length, ids.length);
    assert.equal(pieces.join(""), text);
    assert.ok(pieces.every((piece) => !piece.includes("\uFFFD")));
  });
});
