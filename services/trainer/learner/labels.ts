/** @file Labels of tokens, as transformers has them: they stand beside the ids, and −100 means "not learned". */
import { LearnerInputError } from "./errors.js";

/** Label of a token that is not learned. */
export const IGNORED_LABEL = -100;

/** Throws LearnerInputError naming `field` unless there is a label for each id, each an id of the vocabulary or −100. */
export function checkLabels(
  labels: ArrayLike<number>,
  { ids, vocabSize }: { ids: ArrayLike<number>; vocabSize: number },
  field: string,
): void {
  if (labels.length !== ids.length) {
    throw new LearnerInputError(field, `expected ${ids.length} labels, got ${labels.length}`);
  }
  for (let t = 0; t < labels.length; t++) {
    const label = labels[t];
    if (label !== IGNORED_LABEL && !(Number.isInteger(label) && label >= 0 && label < vocabSize)) {
      const expected = `an id from 0 to ${vocabSize - 1}, or ${IGNORED_LABEL}`;
      throw new LearnerInputError(`${field}[${t}]`, `expected ${expected}, got ${label}`);
    }
  }
}
