/**
 * @file One kernel for each op of `lib/graph`; a test compares the two lists.
 */
import { elementwiseKernels } from "./elementwise.js";
import { indexingKernels } from "./indexing.js";
import type { KernelTable } from "./kernel.js";
import { productKernels } from "./products.js";
import { reduceKernels } from "./reduce.js";
import { shapeKernels } from "./shape.js";

/** Kernels by op name; "Constant" among them. */
export const kernels: KernelTable = {
  ...elementwiseKernels,
  ...indexingKernels,
  ...productKernels,
  ...reduceKernels,
  ...shapeKernels,
};
