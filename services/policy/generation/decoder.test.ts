import assert from "node:assert/strict";
import type { QueueFullError } from "../../../lib/rpc/index.js";
import { type RequestedOptions, resolveOptions } from "../sampling/options.js";
import { scoringBatch } from "../scoring/scorer.js";
import { EXPECTED, idsOf, leastCache, TestPolicy } from "../testing.js";

/** The golden file's option names in ours. */
function requested(options: Record<string, number | boolean>): RequestedOptions {
  const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [camel(name), value]));
}

/** Largest difference of two lists of logprobs. */
function distance(a: readonly number[], b: readonly number[]): number {
  assert.equal(a.length, b.length);
  return Math.max(...a.map((x, i) => Math.abs(x - b[i])));
}

/** Float noise between batches of different sizes: another kernel may sum in another order. */
const NOISE = 1e-5;

describe("the decoder", () => {
  let policy: TestPolicy;
  before(async () => {
    policy = await TestPolicy.create();
  });
  after(() => policy.close());
  afterEach(() => {
    const { active, waiting, jobs, lanes } = policy.decoder.stats();
    assert.deepEqual({ active, waiting, jobs, lanes }, { active: 0, waiting: 0, jobs: 0, lanes: 0 });
  });

  for (const [i, { options, new_ids }] of EXPECTED.generate.entries()) {
    it(`generates what transformers does, option set ${i}, all prompts in one batch`, async () => {
      assert.deepEqual(idsOf(await policy.generate(EXPECTED.input_ids, requested(options))), new_ids);
    });

    it(`generates what transformers does, option set ${i}, each prompt alone`, async () => {
      for (const [p, ids] of EXPECTED.input_ids.entries()) {
        assert.deepEqual(idsOf(await policy.generate([ids], requested(options))), [new_ids[p]]);
      }
    });
  }

  it("logprobs are the model's own, whatever penalties and filters chose", async () => {
    const options = { maxNewTokens: 12, doSample: true, temperature: 0.7, topK: 5, repetitionPenalty: 3 };
    const { sequences } = await policy.generate([EXPECTED.input_ids[0]], options);
    const [{ history, logprobs }] = sequences;
    const weights = policy.store.acquire();
    const start = history.promptLength;
    const scored = await policy.model.score(weights, scoringBatch([{ ids: history.ids, start }]), {});
    weights.release();
    assert.ok(distance(logprobs, [...scored.logprobs]) < NOISE);
  });

  it("a sequence draws the same tokens alone, in a batch, and when it joins others that run", async () => {
    const options = { maxNewTokens: 16, doSample: true, topK: 0, temperature: 1.5, ignoreEos: true };
    const [first, second, third] = EXPECTED.input_ids;
    const together = await policy.generate([first, second, third], options, { seed: 7n });
    const alone = await policy.generate([first], options, { seed: 7n });
    assert.deepEqual(idsOf(alone)[0], idsOf(together)[0]);
    // joins after four tokens of another request
    let joined: Promise<unknown> | undefined;
    let seen = 0;
    const running = policy.generate(
      [second, third],
      { ...options, maxNewTokens: 40 },
      {
        seed: 9n,
        onTokens: (steps) => {
          seen += steps.length;
          if (seen >= 8) joined ??= policy.generate([first], options, { seed: 7n });
        },
      },
    );
    await running;
    const late = (await joined) as typeof alone;
    assert.deepEqual(idsOf(late), idsOf(alone));
    assert.ok(distance(late.sequences[0].logprobs, alone.sequences[0].logprobs) < NOISE);
  });

  it("batch-invariant: alone, in a batch and joining late give the same numbers to the bit", async () => {
    const invariant = await TestPolicy.create({ batchInvariant: true, maxRows: 4, maxPromptTokens: 40 });
    const options = { maxNewTokens: 20, doSample: true, topK: 0, ignoreEos: true, numReturnSequences: 2 };
    const alone = [];
    for (const [i, ids] of EXPECTED.input_ids.entries()) {
      alone.push(
        await invariant.generate([ids], { ...options, maxNewTokens: 20 - 3 * i }, { seed: BigInt(i) }),
      );
    }
    const together = await Promise.all(
      EXPECTED.input_ids.map((ids, i) =>
        invariant.generate([ids], { ...options, maxNewTokens: 20 - 3 * i }, { seed: BigInt(i) }),
      ),
    );
    for (const [i, outcome] of together.entries()) {
      assert.deepEqual(idsOf(outcome), idsOf(alone[i]));
      for (const [n, { logprobs }] of outcome.sequences.entries()) {
        assert.deepEqual(logprobs, alone[i].sequences[n].logprobs);
      }
    }
    await invariant.close();
  });

  it("several sequences of a prompt differ, and each is the one its seed and indices name", async () => {
    const options = { maxNewTokens: 10, doSample: true, topK: 0, numReturnSequences: 3, ignoreEos: true };
    const one = await policy.generate(EXPECTED.input_ids.slice(0, 2), options, { seed: 3n });
    const [a, b, c, d] = idsOf(one);
    assert.notDeepEqual(a, b);
    assert.notDeepEqual(a, c);
    assert.equal(one.sequences.length, 6);
    assert.deepEqual(
      one.sequences.map(({ spec }) => [spec.promptIndex, spec.returnIndex]),
      [
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 0],
        [1, 1],
        [1, 2],
      ],
    );
    const again = await policy.generate(EXPECTED.input_ids.slice(0, 2), options, { seed: 3n });
    assert.deepEqual(idsOf(again), idsOf(one));
    const single = await policy.generate(
      EXPECTED.input_ids.slice(0, 2),
      { ...options, numReturnSequences: 1 },
      { seed: 3n },
    );
    assert.deepEqual(idsOf(single), [a, d]);
  });

  it("rows that end early leave, and the others go on as alone", async () => {
    // eos = the third token of the first prompt's greedy continuation
    const [expected] = EXPECTED.generate;
    const eos = expected.new_ids[0][2];
    const options = { maxNewTokens: 24, eosTokenIds: [eos] };
    const outcome = await policy.generate(EXPECTED.input_ids, options);
    for (const [p, { generatedIds, finish }] of outcome.sequences.entries()) {
      const whole = expected.new_ids[p];
      const at = whole.indexOf(eos);
      assert.deepEqual(generatedIds, at < 0 ? whole : whole.slice(0, at + 1));
      assert.equal(finish, at < 0 ? "length" : "eos");
    }
  });

  it("cost follows what is alive: a step runs only rows that have not ended", async () => {
    const rows: number[] = [];
    const step = policy.model.step.bind(policy.model);
    policy.model.step = (weights, batch, cache) => {
      if (batch.time === 1) rows.push(batch.rows);
      return step(weights, batch, cache);
    };
    const prompts = EXPECTED.input_ids.slice(0, 3);
    const bounds = { vocabSize: 802, maxTokens: 128 };
    const sequences = prompts.map((promptIds, promptIndex) => ({
      promptIndex,
      returnIndex: 0,
      promptIds,
      options: resolveOptions(
        { maxNewTokens: 2 + 2 * promptIndex, ignoreEos: true },
        {},
        promptIds.length,
        bounds,
      ),
      seed: 1n,
      ownSeed: false,
    }));
    await policy.decoder.generate({ sequences, demand: {} });
    policy.model.step = step;
    assert.deepEqual(rows, [3, 2, 2, 1, 1]); // 2, 4 and 6 tokens; the first of each comes with its prompt
  });

  it("a cancelled request leaves before the next step, and the others do not notice", async () => {
    const cancel = new AbortController();
    let after = 0;
    let tokens = 0;
    const cancelled = policy.generate(
      [EXPECTED.input_ids[1], EXPECTED.input_ids[2]],
      { maxNewTokens: 90 },
      {
        signal: cancel.signal,
        onTokens: (steps) => {
          tokens += steps.length;
          if (cancel.signal.aborted) after++;
          if (tokens >= 10) cancel.abort();
        },
      },
    );
    const kept = policy.generate([EXPECTED.input_ids[0]], { maxNewTokens: 24, minNewTokens: 24 });
    await assert.rejects(cancelled, { code: "CANCELLED" });
    assert.equal(after, 0);
    assert.deepEqual(idsOf(await kept), [EXPECTED.generate[0].new_ids[0]]);
  });

  it("a request that waits and is cancelled is never computed", async () => {
    const cancel = new AbortController();
    const small = await TestPolicy.create({ maxRows: 1 });
    const running = small.generate([EXPECTED.input_ids[0]], { maxNewTokens: 30 });
    let computed = 0;
    const waiting = small.generate(
      [EXPECTED.input_ids[1]],
      { maxNewTokens: 30 },
      {
        signal: cancel.signal,
        onTokens: () => computed++,
      },
    );
    cancel.abort();
    await assert.rejects(waiting, { code: "CANCELLED" });
    await running;
    assert.equal(computed, 0);
    await small.close();
  });

  it("more sequences than rows run in turns, with the same results", async () => {
    const small = await TestPolicy.create({ maxRows: 2, maxPromptTokens: 30 });
    const [{ new_ids, options }] = EXPECTED.generate;
    assert.deepEqual(idsOf(await small.generate(EXPECTED.input_ids, requested(options))), new_ids);
    await small.close();
  });

  it("a cache of the least size still serves, one long row at a time", async () => {
    const probe = await TestPolicy.create();
    const bytes = leastCache(probe);
    await probe.close();
    await assert.rejects(TestPolicy.create({ maxCacheBytes: bytes - 1 }), { code: "CONFIG_INVALID" });
    const small = await TestPolicy.create({ maxCacheBytes: bytes });
    const most: number[] = [];
    const step = small.model.step.bind(small.model);
    small.model.step = (weights, batch, cache) => {
      most.push(small.decoder.stats().cacheBytes);
      return step(weights, batch, cache);
    };
    const options = { maxNewTokens: 100, minNewTokens: 100, repetitionPenalty: 2 };
    const outcome = await small.generate(EXPECTED.input_ids, options);
    assert.ok(Math.max(...most) <= bytes);
    assert.deepEqual(idsOf(outcome), idsOf(await policy.generate(EXPECTED.input_ids, options)));
    await small.close();
  });

  it("refuses at once what would not fit the queue", async () => {
    const small = await TestPolicy.create({ maxRows: 1, maxWaiting: 2 });
    const options = { maxNewTokens: 20 };
    const first = small.generate([EXPECTED.input_ids[0]], options);
    await new Promise((resume) => setTimeout(resume, 5)); // it has its row
    const second = small.generate([EXPECTED.input_ids[0], EXPECTED.input_ids[1]], options);
    await assert.rejects(small.generate([EXPECTED.input_ids[0]], options), (error: QueueFullError) => {
      assert.equal(error.code, "QUEUE_FULL");
      assert.ok(error.retryAfterMs! > 0);
      return true;
    });
    await Promise.all([first, second]);
    await small.close();
  });

  it("bounds the tokens that wait, with all that they may come to, and takes any one request where nothing waits", async () => {
    const [prompt] = EXPECTED.input_ids as [number[]];
    const options = { maxNewTokens: 40 };
    const each = prompt.length + options.maxNewTokens;
    const small = await TestPolicy.create({ maxRows: 1, maxWaitingTokens: 2 * each });
    const first = small.generate([prompt, prompt, prompt, prompt], options); // one runs, three wait: too many, but the first
    while (small.decoder.stats().active === 0) await new Promise((resume) => setImmediate(resume));
    await assert.rejects(small.generate([prompt], options), (error: QueueFullError) => {
      assert.equal(error.code, "QUEUE_FULL");
      assert.equal(error.message, `${3 * each} tokens wait, ${each} more would exceed ${2 * each}`);
      assert.ok(error.retryAfterMs! > 0);
      return true;
    });
    await first;
    assert.equal((await small.generate([prompt], options)).sequences.length, 1);
    await small.close();
  });

  it("does not begin what is too late when its turn comes, or certainly would be", async () => {
    const [prompt] = EXPECTED.input_ids as [number[]];
    const small = await TestPolicy.create({ maxRows: 1 });
    const step = small.model.step.bind(small.model);
    let runs = 0;
    small.model.step = async (...args) => {
      runs++;
      await new Promise((resume) => setTimeout(resume, 10));
      return step(...args);
    };
    const first = small.generate([prompt], { maxNewTokens: 12, minNewTokens: 12 });
    const now = Date.now();
    const passed = small.generate([prompt], { maxNewTokens: 2 }, { deadline: now + 1 });
    // 100 steps of 10 ms and more have no room in 800 ms; one that may end at once has
    const hopeless = small.generate(
      [prompt],
      { maxNewTokens: 100, minNewTokens: 100 },
      { deadline: now + 800 },
    );
    const hopeful = small.generate([prompt], { maxNewTokens: 3 }, { deadline: now + 60_000 });
    for (const late of [passed, hopeless]) {
      await assert.rejects(late, { code: "DEADLINE", message: /passed, or would/ });
    }
    await Promise.all([first, hopeful]);
    assert.ok(runs <= 12 + 3, `${runs} runs of the model`);
    await small.close();
  });

  it("options that ban every token fail the request by its options, and no other", async () => {
    const every = Array.from({ length: 802 }, (_, id) => id);
    const banned = policy.generate([EXPECTED.input_ids[0]], { suppressTokenIds: every });
    const fine = policy.generate([EXPECTED.input_ids[0]], { maxNewTokens: 24, minNewTokens: 24 });
    await assert.rejects(banned, { code: "INVALID_FIELD", message: /^options: bans every token/ });
    assert.deepEqual(idsOf(await fine), [EXPECTED.generate[0].new_ids[0]]);
  });

  it("an engine that fails fails the requests it ran, and the next one works", async () => {
    const step = policy.model.step.bind(policy.model);
    let runs = 0;
    policy.model.step = (weights, batch, cache) => {
      if (++runs === 4) return Promise.reject(new Error("no memory"));
      return step(weights, batch, cache);
    };
    await assert.rejects(policy.generate([EXPECTED.input_ids[0]], { maxNewTokens: 24 }), /no memory/);
    policy.model.step = step;
    const [{ options, new_ids }] = EXPECTED.generate;
    assert.deepEqual(idsOf(await policy.generate(EXPECTED.input_ids, requested(options))), new_ids);
  });

  it("weights that give NaN fail the request as such", async () => {
    const broken = await TestPolicy.create();
    const nan = new Map([...broken.weights].map(([name, data]) => [name, data.slice()]));
    nan.get("transformer.ln_f.bias")!.fill(Number.NaN);
    broken.store.swap({ version: 1, digest: "nan", tensors: await broken.model.upload(nan) });
    await assert.rejects(broken.generate([EXPECTED.input_ids[0]], {}), { code: "NON_FINITE" });
    await assert.rejects(broken.generate([EXPECTED.input_ids[0]], { doSample: true }), {
      code: "NON_FINITE",
    });
    await broken.close();
  });
});

describe("the decoder and changing weights", () => {
  it("a sequence is never a mixture: what ran through swaps equals a run on its version alone", async () => {
    const policy = await TestPolicy.create({ maxRows: 8 }, 10);
    const options = { maxNewTokens: 30, doSample: true, topK: 0, ignoreEos: true };
    const outcomes = [];
    for (let version = 1; version <= 5; version++) {
      // each begins on the newest weights and goes on while newer ones are swapped in
      const [first, second] = EXPECTED.input_ids;
      let started = () => {};
      const begun = new Promise<void>((resolve) => {
        started = resolve;
      });
      const onTokens = () => started();
      outcomes.push(policy.generate([first, second], options, { seed: BigInt(version), onTokens }));
      await begun;
      await policy.swap(version);
    }
    const done = await Promise.all(outcomes);
    assert.deepEqual(
      done.map(({ weights }) => weights.version),
      [0, 1, 2, 3, 4],
    );
    assert.deepEqual(policy.store.held(), [{ version: 5, digest: "digest 5" }]);
    await policy.close();
    for (const [i, outcome] of done.entries()) {
      const fresh = await TestPolicy.create();
      if (i > 0) await fresh.swap(i);
      const alone = await fresh.generate(EXPECTED.input_ids.slice(0, 2), options, { seed: BigInt(i + 1) });
      assert.deepEqual(idsOf(alone), idsOf(outcome), `version ${i}`);
      for (const [n, { logprobs }] of alone.sequences.entries()) {
        assert.ok(distance(logprobs, outcome.sequences[n].logprobs) < NOISE);
      }
      await fresh.close();
    }
  });

  it("an old set of weights is freed when its last request ends, and nothing is left alive", async () => {
    const policy = await TestPolicy.create();
    const { engine } = policy.model;
    await policy.generate([EXPECTED.input_ids[0]], { maxNewTokens: 2 });
    const { liveTensors } = engine.stats();
    const swap = await policy.prepare(1);
    let swapped = false;
    const outcome = await policy.generate(
      [EXPECTED.input_ids[0]],
      { maxNewTokens: 10 },
      {
        onTokens: () => {
          if (swapped) return;
          swapped = true;
          swap();
          assert.equal(policy.store.held().length, 2);
        },
      },
    );
    assert.equal(outcome.weights.version, 0);
    assert.deepEqual(
      policy.store.held().map(({ version }) => version),
      [1],
    );
    assert.equal(engine.stats().liveTensors, liveTensors);
    await policy.decoder.close();
    policy.store.close();
    await policy.model.close();
    const { liveTensors: tensors, programs, leaked } = engine.stats();
    assert.deepEqual({ tensors, programs, leaked }, { tensors: 0, programs: 0, leaked: 0 });
  });

  it("a request cancelled amid its prompts lets go of an old set of weights, and nothing fails", async () => {
    const policy = await TestPolicy.create({ maxPromptTokens: 32 });
    const swap = await policy.prepare(1);
    const cancel = new AbortController();
    const prompts = [30, 3, 2].map((length) => new Array<number>(length).fill(5)); // a run each
    const cancelled = policy.generate(
      prompts,
      { maxNewTokens: 5 },
      {
        signal: cancel.signal,
        onTokens: () => {
          if (cancel.signal.aborted) return;
          swap();
          cancel.abort();
        },
      },
    );
    await assert.rejects(cancelled, { code: "CANCELLED" });
    assert.equal((await policy.generate([[5, 6]], { maxNewTokens: 2 })).weights.version, 1);
    assert.deepEqual(policy.failures, []);
    await policy.close();
  });

  it("demands are refused at once when the version is not held", async () => {
    const policy = await TestPolicy.create();
    await policy.swap(4);
    const ask = (demand: object) => policy.generate([[5, 6]], { maxNewTokens: 2 }, { demand });
    await assert.rejects(ask({ minVersion: 5 }), { code: "VERSION_NOT_HELD" });
    await assert.rejects(ask({ version: 3 }), /version 3 demanded, this server holds v4/);
    assert.equal((await ask({ minVersion: 4 })).weights.version, 4);
    assert.equal((await ask({ version: 4 })).weights.version, 4);
    await policy.close();
  });

  it("a version demanded exactly is kept while its request waits", async () => {
    const policy = await TestPolicy.create({ maxRows: 1 });
    let started = () => {};
    const begun = new Promise<void>((resolve) => {
      started = resolve;
    });
    const running = policy.generate(
      [EXPECTED.input_ids[0]],
      { maxNewTokens: 20 },
      { onTokens: () => started() },
    );
    await begun;
    const exact = policy.generate([[5, 6]], { maxNewTokens: 2 }, { demand: { version: 0 } });
    const newest = policy.generate([[5, 6]], { maxNewTokens: 2 });
    await policy.swap(1);
    assert.equal((await running).weights.version, 0);
    assert.equal((await exact).weights.version, 0);
    assert.equal((await newest).weights.version, 1);
    await policy.close();
  });
});
