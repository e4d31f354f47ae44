/**
 * @file The one error of this folder: a graph that cannot be built. It is always a mistake in the code that
 * builds the graph (a wrong shape, type or name), never something a request can cause.
 */

/** A graph was built wrongly; the message names the op, what it expected and what arrived. */
export class GraphError extends Error {
  /** Stable code for callers that branch on errors. */
  readonly code = "GRAPH_INVALID";

  constructor(message: string) {
    super(message);
    this.name = "GraphError";
  }
}
