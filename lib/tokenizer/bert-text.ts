/**
 * @file BERT's normaliser and word splitter, as `BertNormalizer` and `BertPreTokenizer` of the Rust
 * tokenizers.
 * In: text. Out: cleaned text; words and single punctuation characters.
 */
import { CONTROLS, MARKS, PUNCTUATION } from "./bert-unicode.js";
import { WHITE_SPACE } from "./unicode.js";

/** The settings of a BertNormalizer, under its own names. */
export interface BertNormalizerConfig {
  readonly clean_text?: boolean;
  readonly handle_chinese_chars?: boolean;
  /** null: as `lowercase`. */
  readonly strip_accents?: boolean | null;
  readonly lowercase?: boolean;
}

/**
 * Deleted when cleaning: NUL, the replacement character, and controls other than tab, line feed, carriage
 * return.
 */
const UNWANTED = new RegExp(`[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\ufffd${CONTROLS}]`, "gu");
const SPACES = new RegExp(`[${WHITE_SPACE}]`, "gu");
const CJK =
  /[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}]/gu;
const ACCENTS = new RegExp(`[${MARKS}]`, "gu");
const NON_ASCII = /[^\0-\x7f]/;
const ALL_PUNCTUATION = `!-/:-@\\[-\`\\{-~${PUNCTUATION}`;
const WORDS = new RegExp(`[${ALL_PUNCTUATION}]|[^${WHITE_SPACE}${ALL_PUNCTUATION}]+`, "gu");

/** Makes the function that normalises text as the configuration says. */
export function bertNormalizer(config: BertNormalizerConfig): (text: string) => string {
  const { clean_text: clean = true, handle_chinese_chars: chinese = true, lowercase = true } = config;
  const stripAccents = config.strip_accents ?? lowercase;
  return (text) => {
    let out = text;
    if (clean) out = out.replace(UNWANTED, "").replace(SPACES, " ");
    if (!NON_ASCII.test(out)) return lowercase ? out.toLowerCase() : out;
    if (chinese) out = out.replace(CJK, " $& ");
    if (stripAccents) out = out.normalize("NFD").replace(ACCENTS, "");
    return lowercase ? lowerEach(out) : out;
  };
}

/** Lower case without context: a capital sigma at the end of a word becomes the same letter as elsewhere. */
function lowerEach(text: string): string {
  let out = "";
  for (const char of text) out += char.toLowerCase();
  return out;
}

/** Words of normalised text; every punctuation character is a word of its own. */
export function bertWords(text: string): string[] {
  return text.match(WORDS) ?? [];
}
