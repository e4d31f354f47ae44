/**
 * @file What callers see of a tokenizer.
 */

/** Part that a special token plays. */
export type SpecialRole = "bos" | "eos" | "pad" | "unk" | "cls" | "sep" | "mask";

/** The roles, in the order in which transformers gives ids to those that are new. */
export const SPECIAL_ROLES: readonly SpecialRole[] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];

/** Settings of {@link Tokenizer.encode}. */
export interface EncodeOptions {
  /** Second text of a pair. An empty one counts as none, as in transformers. */
  readonly pair?: string;
  /** Wrap as the model was trained ([CLS] … [SEP]). Default true; GPT-2 has no wrapper. */
  readonly addSpecialTokens?: boolean;
  /**
   * Most ids, specials included; content is cut on the right, of a pair the longer text first. Default: no
   * limit.
   */
  readonly maxLength?: number;
  /**
   * Byte-level tokenizers: put a space in front unless the text is empty or begins with whitespace, so that
   * the first
   * word gets the ids it has inside a sentence. Default false.
   */
  readonly prefixSpace?: boolean;
}

/** Ids of a text, or of a pair. */
export interface Encoding {
  readonly ids: number[];
  /** Segment of each id: 0, or 1 for the second text of models that tell them apart. */
  readonly typeIds: number[];
  /** Whether `maxLength` cut something off. */
  readonly truncated: boolean;
}

/** Settings of {@link Tokenizer.decode}. */
export interface DecodeOptions {
  /** Leave special tokens out. Default true. */
  readonly skipSpecialTokens?: boolean;
  /**
   * Undo the spaces before punctuation and in contractions, as older transformers did by default. Default
   * false.
   */
  readonly cleanUp?: boolean;
}

/** Text to ids and back, as the checkpoint's own tokenizer does it. */
export interface Tokenizer {
  /** One more than the highest id, added tokens included: the rows an embedding needs. */
  readonly vocabSize: number;
  /** `model_max_length` of the configuration; Infinity where it sets no limit. */
  readonly modelMaxLength: number;
  /** Ids of the special tokens; a role that the tokenizer does not have is undefined. */
  readonly specialIds: Readonly<Record<SpecialRole, number | undefined>>;
  /** Ids of a text. Throws RangeError when `maxLength` leaves no room for the special tokens. */
  encode(text: string, options?: EncodeOptions): Encoding;
  /** Ids of each text, in order. */
  encodeBatch(texts: readonly string[], options?: Omit<EncodeOptions, "pair">): Encoding[];
  /** Text of ids. Unknown ids are skipped; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /** Text of one id, special or not. */
  decodeToken(id: number): string;
  /** Id of a token as the vocabulary spells it. */
  tokenToId(token: string): number | undefined;
  /** The vocabulary's spelling of an id. */
  idToToken(id: number): string | undefined;
  /** Whether an id is that of a special token. */
  isSpecial(id: number): boolean;
}
