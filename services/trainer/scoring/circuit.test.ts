import assert from "node:assert/strict";
import type { RolloutSample } from "../rollout/sample.js";
import { CircuitOpenError, TermCircuit } from "./circuit.js";
import { ScoreRefusal, scoreWithRetries } from "./terms.js";

/** A circuit with a clock of its own that opens after two failures for 1000 ms. */
function circuitOf() {
  const clock = { now: 0 };
  const states: string[] = [];
  const circuit = new TermCircuit(
    "judge",
    { failures: 2, coolDownMs: 1000 },
    (state, message) => states.push(`${state}: ${message}`),
    () => clock.now,
  );
  return { circuit, clock, states };
}

const fail = () => Promise.reject(new Error("refused connection"));
const answer = () => Promise.resolve(7);
const never = () => false;

describe("the circuit of a reward term", () => {
  it("opens after failures in a row, and then no call is made", async () => {
    const { circuit, states } = circuitOf();
    await assert.rejects(circuit.call(fail, never), /refused connection/);
    assert.equal(await circuit.call(answer, never), 7); // a success in between starts the count anew
    for (let i = 0; i < 2; i++) await assert.rejects(circuit.call(fail, never), /refused connection/);
    assert.equal(circuit.state, "open");
    let called = false;
    await assert.rejects(
      circuit.call(async () => {
        called = true;
      }, never),
      (error: unknown) =>
        error instanceof CircuitOpenError &&
        /2 calls in a row failed \(refused connection\); a trial follows in 1\.0 s/.test(error.message),
    );
    assert.ok(!called);
    assert.equal(states.length, 1);
    assert.match(
      states[0] ?? "",
      /^open: reward term judge: 2 calls in a row failed .* not called for 1000 ms$/,
    );
  });

  it("lets one trial through after the cool-down: it closes the circuit, or opens it again", async () => {
    const { circuit, clock, states } = circuitOf();
    for (let i = 0; i < 2; i++) await assert.rejects(circuit.call(fail, never));
    clock.now = 1000;
    let finish: (error: Error) => void = () => {};
    const trial = circuit.call(() => new Promise<never>((_, reject) => (finish = reject)), never);
    assert.equal(circuit.state, "half-open");
    await assert.rejects(circuit.call(answer, never), /a trial is under way/);
    finish(new Error("still down"));
    await assert.rejects(trial, /still down/);
    assert.equal(circuit.state, "open");
    clock.now = 1999;
    await assert.rejects(circuit.call(answer, never), CircuitOpenError);
    clock.now = 2000;
    assert.equal(await circuit.call(answer, never), 7);
    assert.equal(circuit.state, "closed");
    assert.deepEqual(
      states.map((line) => line.split(":")[0]),
      ["open", "half-open", "open", "half-open", "closed"],
    );
  });

  it("takes a refusal of some samples for an answer", async () => {
    const { circuit } = circuitOf();
    const refuse = () => Promise.reject(new ScoreRefusal(new Map([[0, "too long"]])));
    for (let i = 0; i < 3; i++) {
      await assert.rejects(circuit.call(refuse, (error) => error instanceof ScoreRefusal));
    }
    assert.equal(circuit.state, "closed");
  });

  it("spares the retries of a term that is down, and fails its samples with the reason", async () => {
    const { circuit } = circuitOf();
    const waits: number[] = [];
    let calls = 0;
    const score = () =>
      scoreWithRetries(
        () => {
          calls += 1;
          return fail();
        },
        [{ response: "x" } as RolloutSample],
        { retries: 3, backoff: async (n) => void waits.push(n), onFailure: () => {}, circuit },
        new AbortController().signal,
      );
    const [first] = await score();
    assert.deepEqual([calls, waits], [2, [1, 2]], "two failures open it, the third attempt is not made");
    assert.match(first?.kind === "failed" ? first.reason : "", /^not called: 2 calls in a row failed/);
    await score();
    assert.deepEqual([calls, waits], [2, [1, 2]], "the next shard costs nothing");
  });
});
