import assert from "node:assert/strict";
import { parseGenerationDefaults } from "./generation-config.js";
import { resolveEos, resolveMaxNewTokens, resolveOptions } from "./options.js";

const BOUNDS = { vocabSize: 100, maxTokens: 64 };

describe("generation options", () => {
  it("request over generation_config.json over Hugging Face's defaults", () => {
    const defaults = { topK: 7, temperature: 0.5, doSample: true };
    const options = resolveOptions({ temperature: 2 }, defaults, 4, BOUNDS);
    assert.equal(options.temperature, 2);
    assert.equal(options.topK, 7);
    assert.equal(options.doSample, true);
    const plain = resolveOptions({}, {}, 4, BOUNDS);
    assert.deepEqual(
      [
        plain.maxNewTokens,
        plain.doSample,
        plain.temperature,
        plain.topK,
        plain.topP,
        plain.repetitionPenalty,
      ],
      [20, false, 1, 50, 1, 1],
    );
  });

  it("a default length is cut to what the model holds, a requested one is not", () => {
    assert.equal(resolveMaxNewTokens({}, {}, 60, 64), 4);
    assert.equal(resolveMaxNewTokens({ maxNewTokens: 30 }, {}, 60, 64), 30); // the server refuses it
    assert.equal(resolveMaxNewTokens({}, { maxNewTokens: 9 }, 10, 64), 9);
    assert.equal(resolveMaxNewTokens({}, { maxLength: 24 }, 10, 64), 14);
    assert.equal(resolveMaxNewTokens({}, { maxLength: 8 }, 10, 64), 1);
  });

  it("end of sequence: request, else model; ignored on request; ids outside the vocabulary never match", () => {
    assert.deepEqual(resolveEos({ eosTokenIds: [3, 3, 500] }, { eosTokenIds: [1] }, 100), [3]);
    assert.deepEqual(resolveEos({ eosTokenIds: [] }, { eosTokenIds: [1, 2] }, 100), [1, 2]);
    assert.deepEqual(resolveEos({ ignoreEos: true, eosTokenIds: [3] }, { eosTokenIds: [1] }, 100), []);
  });

  it("reads generation_config.json, with null and negative ids as no EOS", () => {
    const { defaults, warnings } = parseGenerationDefaults(
      {
        eos_token_id: [5, 6],
        pad_token_id: 5,
        top_k: 0,
        temperature: 0.9,
        suppress_tokens: [1],
        num_beams: 1,
      },
      { eosTokenId: 9 },
    );
    assert.deepEqual(defaults, {
      temperature: 0.9,
      topK: 0,
      suppressTokenIds: [1],
      eosTokenIds: [5, 6],
      padTokenId: 5,
    });
    assert.deepEqual(warnings, []);
    assert.deepEqual(
      parseGenerationDefaults({ eos_token_id: null }, { eosTokenId: 9 }).defaults.eosTokenIds,
      [],
    );
    assert.deepEqual(
      parseGenerationDefaults({ eos_token_id: -1 }, { eosTokenId: 9 }).defaults.eosTokenIds,
      [],
    );
    assert.deepEqual(parseGenerationDefaults(undefined, { eosTokenId: 9 }).defaults.eosTokenIds, [9]);
  });

  it("a wrong value names its key, and what this server lacks is a warning", () => {
    assert.throws(
      () => parseGenerationDefaults({ temperature: 0 }, {}),
      /generation_config\.json: temperature: expected a number above 0, found 0/,
    );
    assert.throws(
      () => parseGenerationDefaults({ top_k: "many" }, {}),
      /top_k: expected a whole number from 0/,
    );
    assert.match(parseGenerationDefaults({ num_beams: 4 }, {}).warnings[0], /num_beams: 4 has no effect/);
  });
});
