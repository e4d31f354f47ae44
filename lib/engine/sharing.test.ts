/**
 * @file When an output may be written over an input.
 */
import assert from "node:assert/strict";
import { assumeShape, Graph, groupQueryAttention, scatterNd, type Tensor } from "../graph/index.js";
import { SharingRules } from "./sharing.js";

/** Whether the output that `build` makes of x [4] (and y [4]) may be written over x. */
function allows(build: (x: Tensor, y: Tensor, graph: Graph) => Tensor): boolean {
  const graph = new Graph("sharing");
  const x = graph.input("x", "float32", [4]);
  const y = graph.input("y", "float32", [4]);
  graph.output("x", build(x, y, graph));
  return new SharingRules(graph).allows("x", "x");
}

describe("an output over an input", () => {
  it("is allowed for elementwise updates, however long", () => {
    assert.ok(allows((x, y) => x.sub(y.mul(0.1))));
    assert.ok(allows((x, y) => x.mul(0.9).add(y.mul(y).mul(0.1)).sqrt().mul(x).add(x)));
  });

  it("is allowed where a result other than the last also reads it, before the write", () => {
    const graph = new Graph("adam");
    const m = graph.input("m", "float32", [4]);
    const w = graph.input("w", "float32", [4]);
    const next = graph.output("m", m.mul(0.9).add(graph.input("g", "float32", [4])));
    graph.output("w", w.sub(next.mul(0.1)));
    const rules = new SharingRules(graph);
    assert.ok(rules.allows("m", "m"));
    assert.ok(rules.allows("w", "w"));
    assert.ok(!rules.allows("w", "m"), "w is still to be read when m is written");
    assert.ok(!rules.allows("nothing", "m"));
  });

  it("is refused where something may read it afterwards", () => {
    assert.ok(
      !allows((x, y, graph) => {
        graph.output("later", x.exp());
        return x.add(y);
      }),
    );
    assert.ok(
      !allows((x, y, graph) => {
        graph.output("itself", x);
        return x.add(y);
      }),
    );
    assert.ok(
      !allows((x, y, graph) => {
        graph.output("seen through another name", assumeShape(x, ["four"]).stopGradient().exp());
        return x.add(y);
      }),
    );
    assert.ok(
      !allows((x, y, graph) => {
        graph.output("reshaped", x.reshape([2, 2]).matmul(x.reshape([2, 2])));
        return x.add(y);
      }),
    );
  });

  it("is refused where the write mixes elements, or a kernel reads an element twice", () => {
    assert.ok(!allows((x, y) => x.softmax().add(y)));
    assert.ok(!allows((x) => x.cumSum(0)));
    assert.ok(
      !allows((x, y) =>
        y
          .reshape([1, 4])
          .matmul(x.reshape([4, 1]).expand([4, 4]))
          .reshape([4]),
      ),
    );
  });

  it("is allowed for what is written into a cache", () => {
    const graph = new Graph("scatter");
    const cache = graph.input("cache", "float32", [4, 2]);
    const at = graph.input("at", "int64", ["n", 1]);
    const rows = graph.input("rows", "float32", ["n", 2]);
    graph.output("next", scatterNd(cache, at, rows));
    const rules = new SharingRules(graph);
    assert.ok(rules.allows("cache", "next"));
    assert.ok(!rules.allows("rows", "next"));
  });

  it("is allowed for the cache of attention, each output over its own past", () => {
    const graph = new Graph("attention");
    const input = (name: string, dims: number[]) => graph.input(name, "float32", dims);
    const past = { key: input("pastKey", [1, 1, 4, 8]), value: input("pastValue", [1, 1, 4, 8]) };
    const { output, presentKey, presentValue } = groupQueryAttention(
      {
        query: input("query", [1, 1, 24]),
        pastKey: past.key,
        pastValue: past.value,
        seqlensK: graph.input("seqlens", "int32", [1]),
        totalSequenceLength: graph.input("total", "int32", [1]),
      },
      { numHeads: 1 },
    );
    graph.output("output", output);
    graph.output("presentKey", presentKey);
    graph.output("presentValue", presentValue);
    const rules = new SharingRules(graph);
    assert.ok(rules.allows("pastKey", "presentKey"));
    assert.ok(rules.allows("pastValue", "presentValue"));
    assert.ok(!rules.allows("pastKey", "presentValue"));
  });
});
