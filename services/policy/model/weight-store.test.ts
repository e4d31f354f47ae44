import assert from "node:assert/strict";
import type { EngineTensor } from "../../../lib/engine/index.js";
import { WeightStore } from "./weight-store.js";

/** Weights whose only tensor notes that it was released. */
function weights(version: number, released: number[]) {
  const tensor = { release: () => released.push(version) } as unknown as EngineTensor;
  return { version, digest: `d${version}`, tensors: new Map([["w", tensor]]) };
}

const versions = (store: WeightStore) => store.held().map(({ version }) => version);

describe("the weight store", () => {
  it("a swap frees the old set at once where nobody uses it, else when its last user ends", () => {
    const released: number[] = [];
    const store = new WeightStore();
    store.swap(weights(0, released));
    store.swap(weights(1, released));
    assert.deepEqual(released, [0]);
    const [a, b] = [store.acquire(), store.acquire()];
    store.swap(weights(2, released));
    assert.deepEqual(versions(store), [2, 1]);
    a.release();
    assert.deepEqual(released, [0]);
    b.release();
    assert.deepEqual(released, [0, 1]);
    assert.deepEqual(versions(store), [2]);
  });

  it("versions only rise", () => {
    const store = new WeightStore();
    store.swap(weights(3, []));
    assert.throws(() => store.swap(weights(3, [])), { code: "WEIGHTS_CONFLICT" });
    assert.throws(() => store.swap(weights(2, [])), /expected a version above the serving v3/);
    assert.equal(store.serving.version, 3);
  });

  it("keeps earlier versions for rollback as many as asked", () => {
    const released: number[] = [];
    const store = new WeightStore({ keepVersions: 1 });
    for (const version of [1, 2, 3]) store.swap(weights(version, released));
    assert.deepEqual(released, [1]);
    assert.equal(store.rollback(2).version, 2);
    assert.equal(store.serving.version, 2);
    assert.deepEqual(versions(store), [3, 2]);
    assert.throws(() => store.rollback(1), { code: "VERSION_NOT_HELD" });
    store.swap(weights(4, released)); // above the one that serves
    assert.deepEqual(versions(store), [4, 2]);
    assert.deepEqual(released, [1, 3]);
    store.close();
    assert.deepEqual(released.sort(), [1, 2, 3, 4]);
  });

  it("room waits until a set is freed, or the signal fires", async () => {
    const store = new WeightStore({ maxHeld: 2 });
    store.swap(weights(0, []));
    const user = store.acquire();
    store.swap(weights(1, []));
    let free = false;
    const waiting = store.room().then(() => {
      free = true;
    });
    await assert.rejects(store.room(AbortSignal.abort(new Error("newer"))), /newer/);
    assert.equal(free, false);
    user.release();
    await waiting;
    assert.equal(free, true);
  });
});
