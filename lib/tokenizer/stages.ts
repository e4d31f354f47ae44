/**
 * @file The stages of a tokenizer out of tokenizer.json: normalise, split, encode, decode.
 * GPT-2's and BERT's own stages are ours (they differ from the library's on Unicode, see README.md); every
 * other kind
 * comes from @huggingface/tokenizers.
 */
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { type BertNormalizerConfig, bertNormalizer, bertWords } from "./bert-text.js";
import { Bpe } from "./bpe.js";
import { splitWords, toByteChars } from "./byte-level.js";
import { decodeByteLevel, decodeWordPiece } from "./decode.js";
import { TokenizerError } from "./errors.js";
import { WordPiece } from "./word-piece.js";

/** An object out of a JSON file. */
export type Json = Readonly<Record<string, unknown>>;

/** What a tokenizer does to a stretch of text, and to tokens at the end. */
export interface Stages {
  /** Undefined when the text is taken as it is. */
  readonly normalize: ((text: string) => string) | undefined;
  /** Pieces of a stretch of normalised text; `first` when nothing came before it. */
  readonly split: (text: string, first: boolean) => readonly string[];
  readonly encode: (piece: string) => readonly number[];
  readonly decode: (tokens: readonly string[]) => string;
}

/** Entries of the vocabulary, without added tokens. */
export type Vocab = ReadonlyMap<string, number>;

/** Builds the stages that `json` (tokenizer.json) describes. Throws {@link TokenizerError}. */
export function readStages(json: Json, config: Json, vocab: Vocab, file: string): Stages {
  const library = lazyLibrary(json, config, file);
  return {
    normalize: readNormalizer(json.normalizer, library),
    split: readSplitter(json.pre_tokenizer, library),
    encode: readModel(json.model as Json, vocab, library, file),
    decode: readDecoder(json.decoder, library),
  };
}

/** The vocabulary of `model`. Throws {@link TokenizerError} when it is no map of tokens to ids. */
export function readVocab(model: unknown, file: string): Vocab {
  if (typeof model !== "object" || model === null)
    throw new TokenizerError({ file, expected: "a model", found: "none" });
  const { vocab } = model as Json;
  if (Array.isArray(vocab)) return unigramVocab(vocab, file);
  if (typeof vocab !== "object" || vocab === null) {
    throw new TokenizerError({ file, expected: "model.vocab to map tokens to ids", found: typeof vocab });
  }
  const entries = Object.entries(vocab);
  const bad = entries.find(([, id]) => !Number.isInteger(id) || id < 0 || id >= 2 ** 31);
  if (bad) {
    throw new TokenizerError({
      file: `${file}: model.vocab`,
      expected: `an id for ${JSON.stringify(bad[0])}`,
      found: JSON.stringify(bad[1]),
    });
  }
  return new Map(entries);
}

/** Unigram lists [token, score]; ids are positions. */
function unigramVocab(vocab: readonly unknown[], file: string): Vocab {
  return new Map(
    vocab.map((entry, id) => {
      if (Array.isArray(entry) && typeof entry[0] === "string") return [entry[0], id];
      const found = `${JSON.stringify(entry)?.slice(0, 60)} at ${id}`;
      throw new TokenizerError({ file: `${file}: model.vocab`, expected: "pairs of token and score", found });
    }),
  );
}

/** The library's tokenizer, built when the first of its stages is asked for. */
function lazyLibrary(json: Json, config: Json, file: string): () => Library {
  let library: Library | undefined;
  return () => {
    try {
      library ??= new Library({ added_tokens: [], ...json }, config);
      return library;
    } catch (cause) {
      const found = cause instanceof Error ? cause.message : String(cause);
      throw new TokenizerError({ file, expected: "a tokenizer of known parts", found }, { cause });
    }
  };
}

function readNormalizer(normalizer: unknown, library: () => Library): Stages["normalize"] {
  if (normalizer === null || normalizer === undefined) return undefined;
  if ((normalizer as Json).type === "BertNormalizer")
    return bertNormalizer(normalizer as BertNormalizerConfig);
  const theirs = library().normalizer!;
  return (text) => theirs.normalize(text);
}

function readSplitter(preTokenizer: unknown, library: () => Library): Stages["split"] {
  if (preTokenizer === null || preTokenizer === undefined) return (text) => [text];
  const { type, add_prefix_space: prefixSpace = true, use_regex: useRegex = true } = preTokenizer as Json;
  if (type === "BertPreTokenizer") return bertWords;
  if (type === "ByteLevel") {
    return (text) => {
      const spaced = prefixSpace && !text.startsWith(" ") ? ` ${text}` : text;
      return (useRegex ? splitWords(spaced) : [spaced]).map(toByteChars);
    };
  }
  const theirs = library().pre_tokenizer!;
  // the library prepends Metaspace's mark by section: 0 is the beginning of the text
  return (text, first) => theirs.pre_tokenize(text, { section_index: first ? 0 : 1 });
}

function readModel(model: Json, vocab: Vocab, library: () => Library, file: string): Stages["encode"] {
  if (
    model.type === "WordPiece" ||
    (model.type === undefined && model.max_input_chars_per_word !== undefined)
  ) {
    const unkId = vocab.get(String(model.unk_token ?? "[UNK]"));
    if (unkId === undefined) {
      const found = JSON.stringify(model.unk_token) ?? "nothing";
      throw new TokenizerError({ file, expected: "model.unk_token to be in the vocabulary", found });
    }
    const pieces = new WordPiece({
      vocab,
      unkId,
      prefix: (model.continuing_subword_prefix as string | undefined) ?? "##",
      maxChars: (model.max_input_chars_per_word as number | undefined) ?? 100,
    });
    return (word) => pieces.encode(word);
  }
  const plain =
    !model.continuing_subword_prefix && !model.end_of_word_suffix && !model.byte_fallback && !model.dropout;
  if ((model.type === "BPE" || (model.type === undefined && Array.isArray(model.merges))) && plain) {
    const bpe = new Bpe({
      vocab,
      merges: readMerges(model.merges, vocab, file),
      unkId: typeof model.unk_token === "string" ? vocab.get(model.unk_token) : undefined,
      fuseUnk: model.fuse_unk === true,
      ignoreMerges: model.ignore_merges === true,
    });
    return (piece) => bpe.encode(piece);
  }
  if (!["BPE", "WordPiece", "Unigram", "WordLevel", undefined].includes(model.type as string | undefined)) {
    throw new TokenizerError({ file, expected: "a known model.type", found: JSON.stringify(model.type) });
  }
  const theirs = library().model!;
  return (piece) =>
    theirs
      .encode([piece])
      .map((token: string) => theirs.tokens_to_ids.get(token) ?? theirs.unk_token_id ?? 0);
}

/** Merges as pairs, each checked against the vocabulary. */
function readMerges(merges: unknown, vocab: Vocab, file: string): [string, string][] {
  const where = `${file}: model.merges`;
  if (!Array.isArray(merges))
    throw new TokenizerError({ file: where, expected: "a list", found: typeof merges });
  return merges.map((merge: unknown, rank) => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    if (
      !Array.isArray(pair) ||
      pair.length !== 2 ||
      !pair.every((part) => typeof part === "string" && part !== "")
    ) {
      const found = `${JSON.stringify(merge)?.slice(0, 60)} at ${rank}`;
      throw new TokenizerError({ file: where, expected: "pairs of tokens", found });
    }
    const [left, right] = pair as [string, string];
    const missing = [left, right, left + right].find((token) => !vocab.has(token));
    if (missing !== undefined) {
      const expected = `${JSON.stringify(missing)} of merge ${rank} in the vocabulary`;
      throw new TokenizerError({ file: where, expected, found: "no such token" });
    }
    return [left, right];
  });
}

function readDecoder(decoder: unknown, library: () => Library): Stages["decode"] {
  if (decoder === null || decoder === undefined) return (tokens) => tokens.join(" ");
  const { type, prefix = "##", cleanup = true } = decoder as Json;
  if (type === "ByteLevel") return decodeByteLevel;
  if (type === "WordPiece") return (tokens) => decodeWordPiece(tokens, String(prefix), cleanup === true);
  const theirs = library().decoder!;
  return (tokens) => (tokens.length === 0 ? "" : theirs.decode([...tokens]));
}
