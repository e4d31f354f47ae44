/**
 * @file The smallest objective there is, for tests of what all objectives share: mean squared distance of a weight from targets.
 */
import type { Graph } from "../../../../lib/graph/index.js";
import type { HostFeed } from "../run-program.js";
import type { Objective } from "../trainable-model.js";

/** Targets for the weight `w` [2], and a factor for the loss (NaN or infinity to make it fail). */
export interface QuadraticBatch {
  targets: readonly (readonly [number, number])[];
  factor?: number;
}

/** loss = factor · mean over targets of ½|w − target|², so the gradient is factor · (w − mean target). */
export const quadratic: Objective<QuadraticBatch> = {
  name: "quadratic",
  build(graph: Graph) {
    const targets = graph.input("targets", "float32", ["batch", 2]);
    const difference = graph.parameter("w", [2]).sub(targets);
    const distance = difference.mul(difference).reduceSum([1]).mul(0.5);
    const loss = distance.reduceMean().mul(graph.input("factor", "float32", []));
    return { loss, outputs: { distance } };
  },
  feeds({ targets, factor = 1 }): Record<string, HostFeed> {
    return {
      targets: { dtype: "float32", dims: [targets.length, 2], data: Float32Array.from(targets.flat()) },
      factor: { dtype: "float32", dims: [], data: Float32Array.of(factor) },
    };
  },
};
