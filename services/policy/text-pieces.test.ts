import assert from "node:assert/strict";
import { loadTokenizer, type Tokenizer } from "../../lib/tokenizer/index.js";
import { EXPECTED, GOLDEN } from "./testing.js";
import { createTokenBytes, TextPieces } from "./text-pieces.js";

describe("text of a growing sequence", () => {
  let tokenizer: Tokenizer;
  before(async () => {
    tokenizer = await loadTokenizer(GOLDEN);
  });

  const piecesOf = (text: string) => {
    const pieces = new TextPieces(tokenizer, createTokenBytes(tokenizer));
    return tokenizer.encode(text).ids.map((id) => pieces.next(id));
  };

  it("the pieces make up the text", () => {
    for (const text of [...EXPECTED.prompts, "naïve café — 東京 🎉 done", "  two  spaces\n\n"]) {
      assert.equal(piecesOf(text).join(""), text);
    }
  });

  it("a character appears with the token that completes it", () => {
    const pieces = piecesOf("🎉");
    assert.ok(pieces.length > 1);
    assert.deepEqual(pieces, [...pieces.slice(0, -1).map(() => ""), "🎉"]);
  });

  it("special tokens are silent, and unknown ids have no text", () => {
    const pieces = new TextPieces(tokenizer, createTokenBytes(tokenizer));
    assert.equal(pieces.next(tokenizer.specialIds.eos!), "");
    assert.equal(pieces.next(10 ** 6), "");
  });
});
