/**
 * The policy service as its callers meet it: a real process with its worker, over a real socket.
 */
import assert from "node:assert/strict";
import { FinishReason, PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import type { Tensor } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { runReadmeExample } from "../../lib/config/readme-example.js";
import { createClient } from "../../lib/rpc/client.js";
import { RpcError } from "../../lib/rpc/rpc-error.js";
import { failService, type ServiceProcess, startService } from "../../lib/rpc/testing/service-process.js";
import { EXPECTED, GOLDEN } from "./testing.js";

const MAIN = new URL("./main.js", import.meta.url);
/** What the project promises for log-probabilities against transformers. */
const TOLERANCE = 2e-4;

const start = (...args: string[]) =>
  startService(MAIN, ["--model", GOLDEN, "--threads", "1", "--log-level", "warn", ...args]);
const connect = (address: string) =>
  createClient(PolicyService, address, { deadlineMs: 20_000, retry: false });

/** Elements of a float32 tensor, copied so that they are aligned. */
function floats(tensor: Tensor | undefined): Float32Array {
  return new Float32Array(Uint8Array.from(tensor?.data ?? []).buffer);
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = TOLERANCE): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    assert.ok(
      Math.abs(actual[i] - expected[i]) <= tolerance,
      `[${i}]: expected ${expected[i]}, got ${actual[i]}`,
    );
  }
}

const byIds = (ids: readonly number[]) => ({
  input: { case: "tokens" as const, value: { ids: [...ids] } },
});
const byText = (text: string) => ({ input: { case: "text" as const, value: text } });

/** The golden file's option names in the wire's. */
function options(golden: Record<string, number | boolean>): Record<string, number | boolean> {
  const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(golden).map(([name, value]) => [camel(name), value]));
}

/** The error of a call that must fail. */
async function failure(call: Promise<unknown>): Promise<RpcError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof RpcError, String(error));
    return error;
  }
  throw new Error("the call succeeded");
}

describe("policy service", function () {
  this.timeout(60_000);
  let server: ServiceProcess;
  let client: ReturnType<typeof connect>;

  before(async () => {
    server = await start();
    client = connect(server.address);
  });
  after(async () => {
    client.close();
    assert.equal(await server.stop(), 0);
  });

  it("says what it serves, what it accepts and what a request gets by default", async () => {
    const info = await client.getInfo({});
    const { name, family, maxTokens, vocabSize, parameterCount, weights } = info.model!;
    assert.deepEqual([name, family, maxTokens, vocabSize], ["gpt2-tiny", "gpt2", 128, 802]);
    assert.equal(parameterCount, 55_232n);
    assert.equal(weights?.version, 0n);
    assert.match(weights.digest, /^[0-9a-f]{64}$/);
    assert.equal(info.pinned, false);
    assert.deepEqual(info.eosTokenIds, [0]);
    const { doSample, topK, temperature, maxNewTokens } = info.defaultOptions!;
    assert.deepEqual([doSample, topK, temperature, maxNewTokens], [false, 50, 1, 20]);
    assert.equal(info.server?.limits.max_prompts, 512n);
    assert.equal(info.server?.device, "cpu");
  });

  for (const [i, { options: golden, new_ids, text }] of EXPECTED.generate.entries()) {
    it(`generates what transformers does, option set ${i}, from text and from ids`, async () => {
      for (const prompts of [EXPECTED.prompts.map(byText), EXPECTED.input_ids.map(byIds)]) {
        const { sequences, weights } = await client.generate({ prompts, options: options(golden) });
        assert.deepEqual(
          sequences.map(({ tokens }) => tokens?.ids),
          new_ids,
        );
        assert.deepEqual(
          sequences.map((sequence) => sequence.text),
          text,
        );
        assert.deepEqual(
          sequences.map(({ promptTokens }) => promptTokens?.ids),
          EXPECTED.input_ids,
        );
        assert.ok(sequences.every(({ finishReason }) => finishReason === FinishReason.LENGTH));
        assert.equal(weights?.version, 0n);
      }
    });
  }

  it("scores given ids as transformers does, and what it generated as it said", async () => {
    const scored = await client.logProbs({
      sequences: EXPECTED.input_ids.map((ids) => ({ tokens: { ids } })),
    });
    for (const [i, { logprobs, entropy, distribution }] of scored.results.entries()) {
      assertClose(floats(logprobs), EXPECTED.token_logprobs[i]);
      assert.deepEqual([entropy, distribution], [undefined, undefined]);
    }
    const { sequences } = await client.generate({
      prompts: EXPECTED.input_ids.map(byIds),
      options: { doSample: true, topK: 10, temperature: 0.8, maxNewTokens: 12 },
      seed: 5n,
    });
    const again = await client.logProbs({
      sequences: sequences.map(({ promptTokens, tokens }) => ({
        tokens: { ids: [...promptTokens!.ids, ...tokens!.ids] },
        start: promptTokens!.ids.length,
      })),
      entropy: true,
      fullDistribution: true,
    });
    for (const [i, { logprobs, entropy, distribution }] of again.results.entries()) {
      assertClose(floats(logprobs), floats(sequences[i].logprobs), 1e-5);
      const count = sequences[i].tokens!.ids.length;
      assert.deepEqual(distribution?.shape, [BigInt(count), 802n]);
      assert.equal(entropy?.shape[0], BigInt(count));
      const [first] = [floats(distribution).subarray(0, 802)];
      assertClose([first.reduce((sum, logp) => sum + Math.exp(logp), 0)], [1], 1e-4);
      assertClose([floats(entropy)[0]], [-first.reduce((sum, logp) => sum + Math.exp(logp) * logp, 0)], 1e-4);
    }
  });

  it("streams tokens as they are chosen, then each sequence whole", async () => {
    const [{ options: golden, new_ids, text }] = EXPECTED.generate;
    const ids = new Map<number, number[]>();
    const pieces = new Map<number, string>();
    const ended: number[] = [];
    for await (const { event, weights } of client.generateStream({
      request: { prompts: EXPECTED.input_ids.map(byIds), options: options(golden) },
    })) {
      assert.equal(weights?.version, 0n);
      if (event.case === "token") {
        const { promptIndex, id, logprob } = event.value;
        assert.ok(!ended.includes(promptIndex));
        assert.ok(logprob < 0);
        ids.set(promptIndex, [...(ids.get(promptIndex) ?? []), id]);
        pieces.set(promptIndex, (pieces.get(promptIndex) ?? "") + event.value.text);
      } else if (event.case === "sequence") {
        const { promptIndex, tokens, text: whole } = event.value;
        assert.deepEqual(tokens?.ids, new_ids[promptIndex]);
        assert.deepEqual(ids.get(promptIndex), new_ids[promptIndex]);
        assert.equal(whole, text[promptIndex]);
        // half a character at the end is only in the whole
        assert.ok(whole.startsWith(pieces.get(promptIndex)!));
        ended.push(promptIndex);
      }
    }
    assert.deepEqual(ended.sort(), [0, 1, 2, 3, 4]);
  });

  it("draws by seed: the same again, another with another, a prompt's own whatever its place", async () => {
    const ask = async (prompts: object[], seed?: bigint) => {
      const reply = await client.generate({
        prompts,
        options: { doSample: true, topK: 0, maxNewTokens: 12, ignoreEos: true },
        seed,
      });
      return reply.sequences.map(({ tokens, seed: drawn }) => ({ ids: tokens!.ids, drawn }));
    };
    const prompts = EXPECTED.input_ids.slice(0, 2).map(byIds);
    const first = await ask(prompts, 11n);
    assert.deepEqual(await ask(prompts, 11n), first);
    assert.notDeepEqual((await ask(prompts, 12n))[0].ids, first[0].ids);
    assert.equal(first[0].drawn, 11n);
    const random = await ask(prompts);
    assert.deepEqual(await ask(prompts, random[0].drawn), random); // the seed that was drawn is returned
    const own = { ...prompts[0], seed: 2n ** 64n - 1n };
    const [alone] = await ask([own]);
    const [, , third] = await ask([prompts[1], prompts[1], own], 3n);
    assert.deepEqual(third, alone);
    assert.equal(alone.drawn, 2n ** 64n - 1n);
  });

  it("returns several sequences of a prompt, each its own draw", async () => {
    const { sequences } = await client.generate({
      prompts: EXPECTED.input_ids.slice(0, 2).map(byIds),
      options: { doSample: true, topK: 0, maxNewTokens: 8, numReturnSequences: 3, ignoreEos: true },
      seed: 1n,
    });
    assert.deepEqual(
      sequences.map(({ promptIndex, returnIndex }) => [promptIndex, returnIndex]),
      [0, 1].flatMap((p) => [0, 1, 2].map((r) => [p, r])),
    );
    assert.equal(new Set(sequences.map(({ tokens }) => tokens!.ids.join())).size, 6);
  });

  it("ends at a stop string and at end of sequence, and says which", async () => {
    const [{ options: golden, new_ids, text }] = EXPECTED.generate;
    const ask = async (more: object) => {
      const { sequences } = await client.generate({
        prompts: [byIds(EXPECTED.input_ids[0])],
        options: { ...options(golden), minNewTokens: 0, ...more },
      });
      return sequences[0];
    };
    const stopped = await ask({ stopStrings: [" tokens"] });
    assert.equal(stopped.finishReason, FinishReason.STOP);
    assert.ok(stopped.text.endsWith(" tokens"));
    assert.ok(text[0].startsWith(stopped.text));
    const eos = await ask({ eosTokenIds: [new_ids[0][4]] });
    assert.equal(eos.finishReason, FinishReason.EOS);
    assert.deepEqual(eos.tokens?.ids, new_ids[0].slice(0, 5));
  });

  it("names every wrong field", async () => {
    const paths = async (call: Promise<unknown>) => {
      const error = await failure(call);
      assert.equal(error.status, "INVALID_ARGUMENT", error.message);
      return error.violations.map(({ field }) => field);
    };
    const prompts = [byIds([1, 2])];
    assert.deepEqual(await paths(client.generate({})), ["prompts"]);
    assert.deepEqual(await paths(client.generate({ prompts: [{}, byText(""), byIds([])] })), [
      "prompts[0]",
      "prompts[1].text",
      "prompts[2].tokens.ids",
    ]);
    assert.deepEqual(await paths(client.generate({ prompts: [byIds([1, 802])] })), [
      "prompts[0].tokens.ids[1]",
    ]);
    assert.deepEqual(
      await paths(
        client.generate({
          prompts,
          options: {
            maxNewTokens: 0,
            temperature: 0,
            topK: -1,
            topP: 1.5,
            minP: -0.1,
            typicalP: 0,
            repetitionPenalty: Number.NaN,
            noRepeatNgramSize: -1,
            numReturnSequences: 2,
            eosTokenIds: [900],
            suppressTokenIds: [1, 900],
            stopStrings: ["a", ""],
          },
          weightVersion: -1n,
        }),
      ),
      [
        "options.max_new_tokens",
        "options.temperature",
        "options.top_k",
        "options.top_p",
        "options.min_p",
        "options.typical_p",
        "options.repetition_penalty",
        "options.no_repeat_ngram_size",
        "options.num_return_sequences",
        "options.eos_token_ids[0]",
        "options.suppress_token_ids[1]",
        "options.stop_strings[1]",
        "weight_version",
      ],
    );
    assert.deepEqual(await paths(client.generate({ prompts, options: { minNewTokens: 21 } })), [
      "options.min_new_tokens",
    ]);
    const long = byIds(new Array<number>(120).fill(5));
    assert.deepEqual(
      await paths(client.generate({ prompts: [...prompts, long], options: { maxNewTokens: 9 } })),
      ["prompts[1]"],
    );
    assert.deepEqual(await paths(client.generate({ prompts: new Array<object>(513).fill(prompts[0]) })), [
      "prompts",
    ]);
    const many = { doSample: true, numReturnSequences: 2000 };
    assert.deepEqual(await paths(client.generate({ prompts, options: many })), [
      "options.num_return_sequences",
    ]);
    assert.deepEqual(await paths(drain(client.generateStream({ request: { prompts: [{}] } }))), [
      "request.prompts[0]",
    ]);
    assert.deepEqual(await paths(drain(client.generateStream({}))), ["request"]);
    assert.deepEqual(
      await paths(
        client.logProbs({
          sequences: [
            { tokens: { ids: [1] } },
            { tokens: { ids: [1, 2] }, start: 2 },
            { tokens: { ids: [1, 900] } },
            { tokens: { ids: new Array<number>(129).fill(1) } },
            {},
          ],
        }),
      ),
      [
        "sequences[0].tokens.ids",
        "sequences[1].start",
        "sequences[2].tokens.ids[1]",
        "sequences[3].tokens.ids",
        "sequences[4].tokens.ids",
      ],
    );
  });

  it("a prompt as long as the model leaves no room, one shorter gets one token", async () => {
    const ask = (length: number) => client.generate({ prompts: [byIds(new Array<number>(length).fill(5))] });
    assert.equal((await ask(127)).sequences[0].tokens?.ids.length, 1);
    assert.match(
      (await failure(ask(128))).message,
      /prompts\[0\]: has 128 tokens, and 1 are to be generated/,
    );
  });

  it("refuses versions that it does not hold, and serves those that it does", async () => {
    const prompts = [byIds([5, 6])];
    for (const demand of [{ minWeightVersion: 1n }, { weightVersion: 7n }]) {
      const error = await failure(client.generate({ prompts, ...demand }));
      assert.equal(error.status, "FAILED_PRECONDITION");
      const scoring = await failure(client.logProbs({ sequences: [{ tokens: { ids: [1, 2] } }], ...demand }));
      assert.equal(scoring.status, "FAILED_PRECONDITION");
    }
    assert.equal((await client.generate({ prompts, minWeightVersion: 0n })).weights?.version, 0n);
    assert.equal((await client.generate({ prompts, weightVersion: 0n })).weights?.version, 0n);
  });

  it("many calls at once give what each gives alone", async () => {
    const [{ options: golden, new_ids }] = EXPECTED.generate;
    const calls = Array.from({ length: 40 }, (_, i) =>
      client.generate({ prompts: [byIds(EXPECTED.input_ids[i % 5])], options: options(golden) }),
    );
    for (const [i, { sequences }] of (await Promise.all(calls)).entries()) {
      assert.deepEqual(sequences[0].tokens?.ids, new_ids[i % 5]);
    }
  });

  it("a deadline that passes is said as such", async () => {
    const prompts = new Array<object>(512).fill(byIds([5, 6]));
    const call = client.generate({ prompts, options: { maxNewTokens: 120 } }, { deadlineMs: 60 });
    assert.equal((await failure(call)).status, "DEADLINE_EXCEEDED");
  });
});

describe("services/policy/README.md", () => {
  it("opens with an example that runs", async () => {
    const server = await start();
    process.env.POLICY_ADDRESS = server.address;
    try {
      const { text, version, seed } = await runReadmeExample("services/policy");
      assert.deepEqual([typeof text, version, seed], ["string", 0n, 7n]);
    } finally {
      delete process.env.POLICY_ADDRESS;
      await server.stop();
    }
  });
});

describe("a policy server under more load than it may take", function () {
  this.timeout(60_000);

  it("refuses the surplus at once, says when to come back, and answers what it took", async () => {
    const server = await start("--max-rows", "2", "--queue-sequences", "2");
    const client = connect(server.address);
    const [{ options: golden, new_ids }] = EXPECTED.generate;
    const calls = Array.from({ length: 30 }, () =>
      client.generate({ prompts: [byIds(EXPECTED.input_ids[0])], options: options(golden) }),
    );
    const outcomes = await Promise.allSettled(calls);
    const refused = outcomes.flatMap((each) => (each.status === "rejected" ? [each.reason as RpcError] : []));
    const answered = outcomes.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    assert.ok(
      refused.length > 0 && answered.length >= 4,
      `${refused.length} refused, ${answered.length} answered`,
    );
    for (const error of refused) {
      assert.equal(error.status, "RESOURCE_EXHAUSTED");
      assert.ok(error.retryAfterMs! > 0);
    }
    for (const { sequences } of answered) assert.deepEqual(sequences[0].tokens?.ids, new_ids[0]);
    const tooMany = await failure(client.generate({ prompts: new Array<object>(3).fill(byIds([5])) }));
    assert.deepEqual(
      [tooMany.status, tooMany.violations[0].field],
      ["INVALID_ARGUMENT", "options.num_return_sequences"],
    );
    client.close();
    assert.equal(await server.stop(), 0);
  });
});

describe("a policy server that cannot start", () => {
  it("names what is wrong with its configuration", async () => {
    const { code, log } = await failService(MAIN, [
      "--model",
      GOLDEN,
      "--max-rows",
      "0",
      "--weights",
      "file:/tmp/x",
    ]);
    assert.equal(code, 2);
    assert.match(log, /maxRows: 0/);
  });

  it("names a model directory that is none", async () => {
    const { code, log } = await failService(MAIN, ["--model", "/nowhere", "--log-level", "silent"]);
    assert.equal(code, 3);
    assert.match(log, /\/nowhere/);
  });
});

/** Reads a stream to its end. */
async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream);
}
