/**
 * @file Which tokens of a text are hidden from a masked language model, and what it reads in their place (BERT arXiv:1810.04805,
 * appendix A.1): of the tokens chosen 80 % become the mask token, 10 % any token, 10 % stay as they are, so that the model must
 * say something of every token. In: ids and a random stream. Out: an example. Pure.
 */
import type { Rng } from "../../../lib/dataset/index.js";
import type { Tokenizer } from "../../../lib/tokenizer/index.js";
import { IGNORED_LABEL } from "../learner/labels.js";
import type { MaskedExample } from "../learner/masked-language-task.js";

/** Shares of the chosen tokens that become the mask token, and any token. */
const MASKED = 0.8;
const REPLACED = 0.1;

/** What is known of the tokens. */
export interface MaskingVocabulary {
  /** Id of the mask token. */
  readonly maskId: number;
  /** Ids that may stand in for a token: all that are not special. */
  readonly ordinary: readonly number[];
  isSpecial(id: number): boolean;
}

/** The vocabulary of a tokenizer; undefined where it has no mask token. */
export function maskingVocabulary(tokenizer: Tokenizer): MaskingVocabulary | undefined {
  const { mask } = tokenizer.specialIds;
  if (mask === undefined) return undefined;
  const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id);
  return {
    maskId: mask,
    ordinary: ids.filter((id) => tokenizer.idToToken(id) !== undefined && !tokenizer.isSpecial(id)),
    isSpecial: (id) => tokenizer.isSpecial(id),
  };
}

/**
 * Hides `fraction` of a text's tokens, rounded, and at least one; special tokens are never chosen. A text without others comes back
 * with nothing to find.
 */
export function maskTokens(
  ids: readonly number[],
  { maskId, ordinary, isSpecial }: MaskingVocabulary,
  fraction: number,
  rng: Rng,
): MaskedExample {
  const places = ids.flatMap((id, t) => (isSpecial(id) ? [] : [t]));
  const count = Math.min(places.length, Math.max(1, Math.round(fraction * places.length)));
  const read = [...ids];
  const labels = ids.map(() => IGNORED_LABEL);
  for (const t of rng.shuffle(places).slice(0, count)) {
    labels[t] = ids[t] as number;
    const draw = rng.uniform();
    if (draw < MASKED) read[t] = maskId;
    else if (draw < MASKED + REPLACED) read[t] = ordinary[rng.int(ordinary.length)] as number;
  }
  return { ids: read, labels };
}
