/**
 * @file Trains tokenizers from texts: byte-level BPE (GPT-2) and WordPiece (BERT).
 * Out: the files of a tokenizer, which this library and Hugging Face's both load. The same texts give the
 * same files.
 */

import { type AddedToken, tokenSplitter } from "./added-tokens.js";
import { bertNormalizer, bertWords } from "./bert-text.js";
import { BYTE_CHARS, splitWords, toByteChars } from "./byte-level.js";
import { type CountedWord, learnMerges } from "./merge-trainer.js";
import type { Json } from "./stages.js";
import { createTokenizer } from "./tokenizer.js";
import { SPECIAL_ROLES, type SpecialRole, type Tokenizer } from "./types.js";

/** The files of a trained tokenizer, by name. */
export interface TokenizerFiles {
  readonly "tokenizer.json": Json;
  readonly "tokenizer_config.json": Json;
  readonly "special_tokens_map.json": Json;
}

/** Settings of a training. */
export interface TrainOptions {
  /**
   * Most entries of the vocabulary, special tokens and alphabet included. Fewer when the texts have no more
   * pairs.
   */
  readonly vocabSize: number;
  /** Token of each role; they get the first ids, in the order given. Defaults are those of GPT-2 or BERT. */
  readonly specialTokens?: Partial<Record<SpecialRole, string>>;
  /** Pairs seen less often are not merged. Default 2. */
  readonly minFrequency?: number;
  /** `model_max_length` of the configuration. Default: none. */
  readonly modelMaxLength?: number;
}

/** GPT-2's end of text, and the tokens that a run with padding needs. */
const BPE_SPECIALS: Partial<Record<SpecialRole, string>> = {
  eos: "<|endoftext|>",
  bos: "<|endoftext|>",
  unk: "<|endoftext|>",
  pad: "<|pad|>",
};

const WORD_PIECE_SPECIALS: Partial<Record<SpecialRole, string>> = {
  pad: "[PAD]",
  unk: "[UNK]",
  cls: "[CLS]",
  sep: "[SEP]",
  mask: "[MASK]",
};

/** A tokenizer made of its files in memory. */
export function tokenizerFromFiles(files: TokenizerFiles): Tokenizer {
  return createTokenizer(files["tokenizer.json"], {
    config: files["tokenizer_config.json"],
    specialTokensMap: files["special_tokens_map.json"],
  });
}

/**
 * Trains a byte-level BPE tokenizer like GPT-2's: every text can be encoded, case is kept.
 * `vocabSize` must leave room for the 256 bytes and the special tokens; throws RangeError otherwise.
 */
export function trainBpe(texts: Iterable<string>, options: TrainOptions): TokenizerFiles {
  const roles = options.specialTokens ?? BPE_SPECIALS;
  const specials = [...new Set(Object.values(roles))];
  const alphabet = BYTE_CHARS.toSorted((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
  const symbols = new Symbols([...specials, ...alphabet], options.vocabSize);
  const words = countWords(texts, specials, (text) => splitWords(text).map(toByteChars));
  const merges: [string, string][] = [];
  learnMerges(
    words.map(([word, count]) => ({ symbols: Array.from(word, (char) => symbols.id(char)), count })),
    {
      minFrequency: options.minFrequency ?? 2,
      accept: (left, right) => {
        const pair: [string, string] = [symbols.name(left), symbols.name(right)];
        const id = symbols.add(pair[0] + pair[1]);
        if (id !== undefined) merges.push(pair);
        return id;
      },
    },
  );
  const vocab = symbols.vocab();
  const tokenizer: Json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens(specials, vocab),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges,
    },
  };
  return withConfigs(
    tokenizer,
    roles,
    { tokenizer_class: "GPT2Tokenizer", add_prefix_space: false },
    options,
  );
}

/**
 * Trains a lower-casing WordPiece tokenizer like BERT's. Characters that the texts lack become [UNK], except
 * ASCII
 * letters, digits and punctuation, which are always in the vocabulary. Throws RangeError when `vocabSize` is
 * too small.
 */
export function trainWordPiece(texts: Iterable<string>, options: TrainOptions): TokenizerFiles {
  const roles = options.specialTokens ?? WORD_PIECE_SPECIALS;
  const specials = [...new Set(Object.values(roles))];
  const normalize = bertNormalizer({});
  const words = countWords(texts, specials, (text) => bertWords(normalize(text)));
  const chars = new Set<string>(ASCII);
  for (const [word] of words) for (const char of word) chars.add(char);
  const alphabet = [...chars].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
  const continued = alphabet.filter((char) => bertWords(`a${char}`).length === 1); // punctuation stands alone
  const symbols = new Symbols(
    [...specials, ...alphabet, ...continued.map((char) => `##${char}`)],
    options.vocabSize,
  );
  learnMerges(
    words.map(
      ([word, count]): CountedWord => ({
        symbols: Array.from(word, (char, i) => symbols.id(i === 0 ? char : `##${char}`)),
        count,
      }),
    ),
    {
      minFrequency: options.minFrequency ?? 2,
      accept: (left, right) => symbols.add(symbols.name(left) + symbols.name(right).slice("##".length)),
    },
  );
  const vocab = symbols.vocab();
  const special = (role: "cls" | "sep", type_id: number) => ({
    SpecialToken: { id: tokenOf(roles, role), type_id },
  });
  const text = (id: "A" | "B", type_id: number) => ({ Sequence: { id, type_id } });
  const single = [special("cls", 0), text("A", 0), special("sep", 0)];
  const tokenizer: Json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens(specials, vocab),
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
      single,
      pair: [...single, text("B", 1), special("sep", 1)],
      special_tokens: Object.fromEntries(
        (["cls", "sep"] as const).map((role) => {
          const token = tokenOf(roles, role);
          return [token, { id: token, ids: [vocab[token]], tokens: [token] }];
        }),
      ),
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: tokenOf(roles, "unk"),
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab,
    },
  };
  const config = {
    tokenizer_class: "BertTokenizer",
    do_lower_case: true,
    strip_accents: null,
    tokenize_chinese_chars: true,
  };
  return withConfigs(tokenizer, roles, config, options);
}

/** Printable ASCII without the space, lower-cased as the normaliser leaves it. */
const ASCII = Array.from({ length: 94 }, (_, i) => String.fromCharCode(0x21 + i).toLowerCase());

/** Symbols and their ids, up to a limit. */
class Symbols {
  private readonly names: string[];
  private readonly ids: Map<string, number>;

  constructor(
    first: readonly string[],
    private readonly limit: number,
  ) {
    if (!Number.isSafeInteger(limit) || limit < first.length) {
      const what = "special tokens and alphabet";
      throw new RangeError(`vocabSize: expected at least ${first.length} for ${what}, got ${limit}`);
    }
    this.names = [...first];
    this.ids = new Map(first.map((name, id) => [name, id]));
  }

  id(name: string): number {
    return this.ids.get(name)!;
  }

  name(id: number): string {
    return this.names[id]!;
  }

  /** Id of a symbol, new if need be; undefined when the vocabulary is full. */
  add(name: string): number | undefined {
    if (this.names.length >= this.limit) return undefined;
    const known = this.ids.get(name);
    if (known !== undefined) return known;
    this.ids.set(name, this.names.length);
    return this.names.push(name) - 1;
  }

  vocab(): Record<string, number> {
    return Object.fromEntries(this.ids);
  }
}

/** Words with their counts, in order of first occurrence. Special tokens in the texts are passed over. */
function countWords(
  texts: Iterable<string>,
  specials: readonly string[],
  split: (text: string) => readonly string[],
): [string, number][] {
  const counts = new Map<string, number>();
  const cut = tokenSplitter(
    new Map(specials.map((content, id): [string, AddedToken] => [content, { id, content }])),
  );
  for (const text of texts) {
    for (const segment of cut(text)) {
      if (typeof segment === "number") continue;
      for (const word of split(segment)) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  return [...counts];
}

function addedTokens(specials: readonly string[], vocab: Readonly<Record<string, number>>): AddedToken[] {
  return specials.map((content) => ({
    id: vocab[content]!,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
}

function tokenOf(roles: Partial<Record<SpecialRole, string>>, role: SpecialRole): string {
  const token = roles[role];
  if (token === undefined) throw new RangeError(`specialTokens: expected a token for ${role}, got none`);
  return token;
}

function withConfigs(
  tokenizer: Json,
  roles: Partial<Record<SpecialRole, string>>,
  config: Json,
  { modelMaxLength }: TrainOptions,
): TokenizerFiles {
  const map = Object.fromEntries(
    SPECIAL_ROLES.flatMap((role) => (roles[role] === undefined ? [] : [[`${role}_token`, roles[role]]])),
  );
  return {
    "tokenizer.json": tokenizer,
    "tokenizer_config.json": {
      ...config,
      ...map,
      clean_up_tokenization_spaces: false,
      // what transformers itself writes when there is no limit
      model_max_length: modelMaxLength ?? 1e30,
    },
    "special_tokens_map.json": map,
  };
}
