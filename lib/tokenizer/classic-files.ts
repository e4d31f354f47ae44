/**
 * @file The classic tokenizer files as a tokenizer.json, and the settings of tokenizer_config.json laid over
 * one, both
 * as the tokenizer classes of transformers do.
 */
import type { AddedToken } from "./added-tokens.js";
import { TokenizerError } from "./errors.js";
import { CLASS_ROLES, tokenizerClass } from "./special-roles.js";
import type { Json } from "./stages.js";

/**
 * tokenizer.json with what the class's constructor overrides: BERT's do_lower_case (true unless said
 * otherwise),
 * strip_accents and tokenize_chinese_chars, and add_prefix_space of byte-level classes.
 */
export function withConfig(json: Json, config: Json): Json {
  const name = tokenizerClass(config);
  const normalizer = json.normalizer as Json | null | undefined;
  if ((name === "BertTokenizer" || name === "DistilBertTokenizer") && normalizer?.type === "BertNormalizer") {
    return { ...json, normalizer: { ...normalizer, ...bertSettings(config) } };
  }
  const splitter = json.pre_tokenizer as Json | null | undefined;
  if (splitter?.type === "ByteLevel" && typeof config.add_prefix_space === "boolean") {
    return { ...json, pre_tokenizer: { ...splitter, add_prefix_space: config.add_prefix_space } };
  }
  return json;
}

function bertSettings(config: Json): Json {
  return {
    lowercase: config.do_lower_case ?? true,
    strip_accents: config.strip_accents ?? null,
    handle_chinese_chars: config.tokenize_chinese_chars ?? true,
  };
}

/** vocab.json and merges.txt: GPT-2's byte-level BPE, with RoBERTa's wrapper where the class says so. */
export function fromMerges(files: {
  vocab: Json;
  merges: string;
  addedTokens: Json;
  config: Json;
  file: string;
  mergesFile: string;
}): Json {
  const { vocab, config } = files;
  const merges: [string, string][] = [];
  for (const [i, line] of files.merges.split(/\r?\n/).entries()) {
    if (line === "" || (i === 0 && line.startsWith("#version"))) continue;
    const parts = line.split(" ");
    if (parts.length !== 2) {
      const found = JSON.stringify(line.slice(0, 60));
      throw new TokenizerError({ file: `${files.mergesFile}: line ${i + 1}`, expected: "two tokens", found });
    }
    merges.push(parts as [string, string]);
  }
  const roberta = tokenizerClass(config) === "RobertaTokenizer";
  const idOf = (role: "cls" | "sep"): [string, number] => {
    const token = roleContent(config, role) ?? CLASS_ROLES.RobertaTokenizer![role]!;
    const id = vocab[token];
    if (typeof id !== "number") {
      throw new TokenizerError({
        file: files.file,
        expected: `${token} in the vocabulary`,
        found: "no such token",
      });
    }
    return [token, id];
  };
  return {
    version: "1.0",
    added_tokens: continueIds(files.addedTokens, vocab, files.file),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: config.add_prefix_space === true, use_regex: true },
    post_processor: roberta ? { type: "RobertaProcessing", cls: idOf("cls"), sep: idOf("sep") } : null,
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab, merges },
  };
}

/** vocab.txt: BERT's WordPiece; the id of a token is its line, counted from 0. */
export function fromVocabTxt(files: { lines: string; addedTokens: Json; config: Json; file: string }): Json {
  const { config, file } = files;
  const lines = files.lines.split(/\r\n|\n|\r/);
  if (lines.at(-1) === "") lines.pop();
  const vocab = Object.fromEntries(lines.map((token, id) => [token, id])); // a repeated token keeps its last line
  const token = (role: "unk" | "sep" | "cls") =>
    roleContent(config, role) ?? CLASS_ROLES.BertTokenizer![role]!;
  const special_tokens: Record<string, object> = {};
  for (const role of ["cls", "sep"] as const) {
    const id = vocab[token(role)];
    if (id === undefined) {
      throw new TokenizerError({
        file,
        expected: `${token(role)} in the vocabulary`,
        found: "no such token",
      });
    }
    special_tokens[token(role)] = { id: token(role), ids: [id], tokens: [token(role)] };
  }
  const special = (role: "cls" | "sep", type_id: number) => ({ SpecialToken: { id: token(role), type_id } });
  const text = (id: "A" | "B", type_id: number) => ({ Sequence: { id, type_id } });
  const single = [special("cls", 0), text("A", 0), special("sep", 0)];
  return {
    version: "1.0",
    added_tokens: continueIds(files.addedTokens, vocab, file),
    normalizer: { type: "BertNormalizer", clean_text: true, ...bertSettings(config) },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single,
      pair: [...single, text("B", 1), special("sep", 1)],
      special_tokens,
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: { type: "WordPiece", unk_token: token("unk"), continuing_subword_prefix: "##", vocab },
  };
}

/** added_tokens.json: its new ids must continue the vocabulary's without a gap. */
function continueIds(added: Json, vocab: Json, file: string): AddedToken[] {
  let next = Object.keys(vocab).length;
  const entries = Object.entries(added).sort((a, b) => Number(a[1]) - Number(b[1]));
  return entries.map(([content, id]) => {
    const expected = typeof vocab[content] === "number" ? vocab[content] : next++;
    if (id !== expected) {
      const where = `${file}: added_tokens.json`;
      throw new TokenizerError({
        file: where,
        expected: `id ${expected} for ${content}`,
        found: JSON.stringify(id),
      });
    }
    return { id: expected, content, normalized: false, special: false };
  });
}

function roleContent(config: Json, role: string): string | undefined {
  const value = config[`${role}_token`];
  const content = typeof value === "object" && value !== null ? (value as Json).content : value;
  return typeof content === "string" ? content : undefined;
}
