/** @file The metrics of a run by column, as charts want them. */

export class MetricsStore {
  xs = [];
  /** Values by metric, each as long as xs; null where a step has none. */
  columns = new Map();

  /** Takes lines of metrics.jsonl; `reset` drops what came before. */
  add({ reset, values }) {
    if (reset) {
      this.xs = [];
      this.columns = new Map();
    }
    for (const line of values) {
      if (typeof line !== "object" || line === null || typeof line.step !== "number") continue;
      const at = this.xs.push(line.step) - 1;
      for (const [name, value] of Object.entries(line)) {
        if (name === "step") continue;
        let column = this.columns.get(name);
        if (!column) {
          column = new Array(at).fill(null);
          this.columns.set(name, column);
        }
        column[at] = typeof value === "number" ? value : null;
      }
      for (const column of this.columns.values()) if (column.length <= at) column[at] = null;
    }
  }

  get names() {
    return new Set(this.columns.keys());
  }

  /** A metric's values, smoothed by an exponential mean of this weight (0: as they are). */
  column(name, weight = 0) {
    const values = this.columns.get(name) ?? [];
    if (weight === 0) return values;
    let mean = null;
    return values.map((value) => {
      if (value === null) return null;
      mean = mean === null ? value : weight * mean + (1 - weight) * value;
      return mean;
    });
  }
}
