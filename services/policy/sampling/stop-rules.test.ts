import assert from "node:assert/strict";
import { finishReason, StopStringMatcher } from "./stop-rules.js";

const VOCABULARY = ["a", "b", "ab", "\n\nq", "", "é".normalize(), "x\n"];
const bytes = VOCABULARY.map((text) => Buffer.from(text, "utf8"));
bytes.push(Buffer.from([0xc3]), Buffer.from([0xa9])); // 7, 8: the two halves of é
const tokenBytes = (id: number) => bytes[id];

/** After which of the generated ids the row stops, by index; −1 never. */
function stopsAt(stop: string[], prompt: number[], generated: number[]): number {
  const matcher = new StopStringMatcher(stop, tokenBytes, prompt);
  return generated.findIndex((id) => matcher.push(id));
}

describe("stop rules", () => {
  it("a stop string may begin in an earlier token, the prompt included, and the newest token may go on beyond it", () => {
    assert.equal(stopsAt(["ba"], [1], [0]), 0); // begins in the prompt
    assert.equal(stopsAt(["\n\n"], [0], [0, 3]), 1); // "\n\nq" goes on
    assert.equal(stopsAt(["\n\n\n"], [6], [3]), 0); // "x\n" + "\n\nq"
    assert.equal(stopsAt(["aba"], [0], [1, 1, 0, 1, 0]), 4);
  });

  it("an occurrence wholly in the prompt does not stop, nor does a token without text", () => {
    assert.equal(stopsAt(["ab"], [2], [1, 4, 4]), -1);
    assert.equal(stopsAt(["ab"], [0, 1], [4]), -1);
  });

  it("halves of a character match as bytes", () => {
    assert.equal(stopsAt(["é"], [], [7, 8]), 1);
    assert.equal(stopsAt(["é"], [], [5]), 0);
  });

  it("several stop strings: any of them ends the row", () => {
    assert.equal(stopsAt(["zz", "bb"], [0], [1, 1]), 1);
  });

  it("an end-of-sequence id outranks the rest, and the length comes last", () => {
    const rules = { eosTokenIds: [4, 9], maxNewTokens: 3 };
    assert.equal(finishReason(rules, 1, 1), undefined);
    assert.equal(finishReason(rules, 9, 1), "eos");
    assert.equal(finishReason(rules, 4, 3), "eos");
    assert.equal(finishReason(rules, 1, 3), "length");
    const stopStrings = new StopStringMatcher(["b"], tokenBytes, []);
    assert.equal(finishReason({ ...rules, stopStrings }, 1, 3), "stop");
  });
});
