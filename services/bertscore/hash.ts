/**
 * @file The string that says how a score was made, in bert_score's shape but under our own name, so that our numbers
 * are not taken for the Python package's: `roberta-large_L17_no-idf_version=0.3.13(rlhf-mesh=0.1.0)-rescaled`.
 */

/** The bert_score release whose definition the numbers follow. */
export const FOLLOWED_VERSION = "0.3.13";

/** What the hash names. Two scores with equal hashes (and equal inputs) were computed the same way. */
export interface HashFacts {
  model: string;
  layer: number;
  idf: boolean;
  /** Our release, as in package.json. */
  version: string;
  /** `published` for a table that came with bert_score, `custom` for a table given by file. */
  rescaled?: "published" | "custom";
  /** Set where the tokenizer makes a difference: false is what upstream's fast tokenizer gives. */
  prefixSpace?: boolean;
}

/** Builds the hash string. */
export function scoreHash({ model, layer, idf, version, rescaled, prefixSpace }: HashFacts): string {
  const rescaling = rescaled === "custom" ? "-custom-rescaled" : rescaled === "published" ? "-rescaled" : "";
  const tokenizer = prefixSpace === false ? "_fast-tokenizer" : "";
  const weights = idf ? "idf" : "no-idf";
  return `${model}_L${layer}_${weights}_version=${FOLLOWED_VERSION}(rlhf-mesh=${version})${rescaling}${tokenizer}`;
}
