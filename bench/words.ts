/**
 * @file A made-up language and its tokenizers, so that benchmarks need no download: words of two and three syllables, and
 * vocabularies of any size in which a known word is exactly one token. Tokenization does the same work as with a real vocabulary
 * of that size, and the number of tokens of a text is known beforehand.
 */
import type { Rng } from "../lib/dataset/index.js";
import { BYTE_CHARS } from "../lib/tokenizer/byte-level.js";
import type { TokenizerFiles } from "../lib/tokenizer/index.js";

const SYLLABLES = Array.from("bdfghjklmnprstvwyz").flatMap((c) => Array.from("aeiou", (v) => c + v));
/** How many words have two syllables; they have the first numbers. */
export const SHORT_WORDS = SYLLABLES.length ** 2;

const SPACE = "Ġ"; // how byte-level BPE writes a space

/** The word with this number: first all words of two syllables, then those of three, each in a scrambled order. */
export function wordAt(index: number): string {
  return syllablesOf(index).join("");
}

// the factors are primes that do not divide the number of words, so every word comes once
function syllablesOf(index: number): string[] {
  const n = SYLLABLES.length;
  if (index < SHORT_WORDS) {
    const code = (index * 7919) % SHORT_WORDS;
    return [SYLLABLES[Math.floor(code / n)], SYLLABLES[code % n]];
  }
  const code = ((index - SHORT_WORDS) * 104_729) % (SHORT_WORDS * n);
  return [SYLLABLES[Math.floor(code / n / n)], SYLLABLES[Math.floor(code / n) % n], SYLLABLES[code % n]];
}

/** A family of tokenizers: GPT-2's byte-level BPE, RoBERTa's, or BERT's WordPiece. */
export type Family = "gpt2" | "roberta" | "bert";

const SPECIALS: Record<Family, readonly string[]> = {
  gpt2: ["<|endoftext|>"],
  roberta: ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
  bert: ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
};

const ASCII = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));

/** How many words a vocabulary of `size` holds as single tokens; they are the first ones of `wordAt`. */
export function knownWords(family: Family, size: number): number {
  const pieces = family === "bert" ? 2 * ASCII.length : BYTE_CHARS.length;
  const count = size - SPECIALS[family].length - pieces - 2 * SYLLABLES.length;
  if (count < 1) throw new RangeError(`vocabulary of ${family}: ${size} entries leave no room for words`);
  return count;
}

/**
 * A text of `count` words. `known` words are single tokens (the first of the text aside, which has no space before it); a share
 * `unknown` of the words is outside the vocabulary and takes more.
 */
export function sentence(
  rng: Rng,
  count: number,
  { known, unknown = 0 }: { known: number; unknown?: number },
): string {
  const word = () =>
    wordAt(rng.uniform() < unknown ? Math.max(known, SHORT_WORDS) + rng.int(100_000) : rng.int(known));
  return Array.from({ length: count }, word).join(" ");
}

/** The files of a tokenizer with exactly `size` entries. */
export function tokenizerFiles(family: Family, size: number): TokenizerFiles {
  return family === "bert" ? wordPieceFiles(size) : bpeFiles(family, size);
}

function bpeFiles(family: "gpt2" | "roberta", size: number): TokenizerFiles {
  const specials = SPECIALS[family];
  const merges: [string, string][] = [
    ...SYLLABLES.map(([c, v]): [string, string] => [c, v]),
    ...SYLLABLES.map((syllable): [string, string] => [SPACE, syllable]),
  ];
  for (let i = 0; i < knownWords(family, size); i++) {
    const syllables = syllablesOf(i);
    const last = syllables.pop()!;
    merges.push([SPACE + syllables.join(""), last]);
  }
  // GPT-2 and RoBERTa keep one special token at the end
  const [tail, head] = [specials.slice(-1), specials.slice(0, -1)];
  const tokens = [...head, ...BYTE_CHARS, ...merges.map((pair) => pair.join("")), ...tail];
  const idOf = (token: string) => tokens.indexOf(token);
  const roles =
    family === "gpt2"
      ? { bos_token: tail[0], eos_token: tail[0], unk_token: tail[0] }
      : {
          bos_token: "<s>",
          eos_token: "</s>",
          cls_token: "<s>",
          sep_token: "</s>",
          pad_token: "<pad>",
          unk_token: "<unk>",
        };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    "tokenizer.json": {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: specials.map((content) => added(content, idOf(content))),
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor:
        family === "gpt2"
          ? byteLevel
          : {
              type: "RobertaProcessing",
              sep: ["</s>", idOf("</s>")],
              cls: ["<s>", idOf("<s>")],
              trim_offsets: true,
              add_prefix_space: false,
            },
      decoder: byteLevel,
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges,
      },
    },
    "tokenizer_config.json": {
      ...roles,
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
      model_max_length: family === "gpt2" ? 1024 : 512,
      tokenizer_class: "PreTrainedTokenizerFast",
    },
    "special_tokens_map.json": roles,
  };
}

function wordPieceFiles(size: number): TokenizerFiles {
  const specials = SPECIALS.bert;
  const tokens = [
    ...specials,
    ...ASCII,
    ...ASCII.map((char) => `##${char}`),
    ...SYLLABLES,
    ...SYLLABLES.map((syllable) => `##${syllable}`),
    ...Array.from({ length: knownWords("bert", size) }, (_, i) => wordAt(i)),
  ];
  const piece = (name: string, type: number) => ({
    [name.length === 1 ? "Sequence" : "SpecialToken"]: { id: name, type_id: type },
  });
  const special = (token: string) => ({ id: token, ids: [tokens.indexOf(token)], tokens: [token] });
  const roles = {
    cls_token: "[CLS]",
    mask_token: "[MASK]",
    pad_token: "[PAD]",
    sep_token: "[SEP]",
    unk_token: "[UNK]",
  };
  return {
    "tokenizer.json": {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: specials.map((content, id) => added(content, id)),
      normalizer: {
        type: "BertNormalizer",
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
        lowercase: true,
      },
      pre_tokenizer: { type: "BertPreTokenizer" },
      post_processor: {
        type: "TemplateProcessing",
        single: [piece("[CLS]", 0), piece("A", 0), piece("[SEP]", 0)],
        pair: [piece("[CLS]", 0), piece("A", 0), piece("[SEP]", 0), piece("B", 1), piece("[SEP]", 1)],
        special_tokens: { "[CLS]": special("[CLS]"), "[SEP]": special("[SEP]") },
      },
      decoder: { type: "WordPiece", prefix: "##", cleanup: true },
      model: {
        type: "WordPiece",
        unk_token: "[UNK]",
        continuing_subword_prefix: "##",
        max_input_chars_per_word: 100,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      },
    },
    "tokenizer_config.json": {
      ...roles,
      do_lower_case: true,
      clean_up_tokenization_spaces: false,
      model_max_length: 512,
      tokenizer_class: "PreTrainedTokenizerFast",
    },
    "special_tokens_map.json": roles,
  };
}

function added(content: string, id: number) {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
}
