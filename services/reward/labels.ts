/**
 * @file Which label's score is the reward.
 */

/** Index of the label that a request or flag means: by name, else by its index as digits; undefined if there is none. */
export function findLabel(labels: readonly string[], wanted: string): number | undefined {
  const byName = labels.indexOf(wanted);
  if (byName >= 0) return byName;
  const index = /^\d{1,9}$/.test(wanted) ? Number(wanted) : labels.length;
  return index < labels.length ? index : undefined;
}

/** The label used when nobody names one: the last, which in two-label models is the positive class. */
export function defaultLabel(labels: readonly string[]): number {
  return labels.length - 1;
}

/** What a label may be, for an error message: `"LABEL_0", "LABEL_1" or an index from 0 to 1`. */
export function acceptedLabels(labels: readonly string[]): string {
  const shown = labels.slice(0, 10).map((label) => JSON.stringify(label));
  const more = labels.length > shown.length ? ", …" : "";
  return `${shown.join(", ")}${more} or an index from 0 to ${labels.length - 1}`;
}
