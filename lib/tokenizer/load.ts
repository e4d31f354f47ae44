/**
 * @file Loads the tokenizer of a model directory: tokenizer.json, or vocab.json and merges.txt, or vocab.txt.
 */
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fromMerges, fromVocabTxt, withConfig } from "./classic-files.js";
import { TokenizerError } from "./errors.js";
import type { Json } from "./stages.js";
import { createTokenizer } from "./tokenizer.js";
import type { Tokenizer } from "./types.js";

/** Model families whose tokenizer class is known when no file names it. */
const CLASS_OF_FAMILY: Readonly<Record<string, string>> = {
  bert: "BertTokenizer",
  distilbert: "DistilBertTokenizer",
  gpt2: "GPT2Tokenizer",
  roberta: "RobertaTokenizer",
};

/**
 * Loads the tokenizer in `dir` as transformers would. tokenizer.json is preferred; the classic files are
 * converted.
 * Throws {@link TokenizerError} naming the file when something is missing or damaged.
 */
export async function loadTokenizer(dir: string): Promise<Tokenizer> {
  const folder = resolve(dir);
  const config = { ...((await readJson(join(folder, "tokenizer_config.json"))) ?? {}) };
  const specialTokensMap = await readJson(join(folder, "special_tokens_map.json"));
  if (config.tokenizer_class === undefined) {
    const family = (await readJson(join(folder, "config.json")))?.model_type;
    if (typeof family === "string" && Object.hasOwn(CLASS_OF_FAMILY, family)) {
      config.tokenizer_class = CLASS_OF_FAMILY[family];
    }
  }
  const settings = { config, specialTokensMap };
  const fast = join(folder, "tokenizer.json");
  const json = await readJson(fast);
  if (json) return sound(fast, () => createTokenizer(withConfig(json, config), { ...settings, file: fast }));

  const vocabJson = join(folder, "vocab.json");
  const vocab = await readJson(vocabJson);
  const addedTokens = (await readJson(join(folder, "added_tokens.json"))) ?? {};
  if (vocab) {
    const mergesTxt = join(folder, "merges.txt");
    const merges = await readText(mergesTxt);
    if (merges === undefined)
      throw new TokenizerError({
        file: mergesTxt,
        expected: "merges beside vocab.json",
        found: "no such file",
      });
    const files = { file: vocabJson, mergesFile: mergesTxt };
    return sound(vocabJson, () => {
      const converted = fromMerges({ vocab, merges, addedTokens, config, ...files });
      return createTokenizer(converted, { ...settings, file: vocabJson });
    });
  }
  const vocabTxt = join(folder, "vocab.txt");
  const lines = await readText(vocabTxt);
  if (lines !== undefined) {
    return sound(vocabTxt, () => {
      const converted = fromVocabTxt({ lines, addedTokens, config, file: vocabTxt });
      return createTokenizer(converted, { ...settings, file: vocabTxt });
    });
  }
  const expected = "tokenizer.json, vocab.json with merges.txt, or vocab.txt";
  throw new TokenizerError({ file: folder, expected, found: "none of them" });
}

/** Reaches every stage of a tokenizer. */
const TRIAL = "A trial, no 1.";

/**
 * Builds a tokenizer and tries it, so that what its files got wrong is known now and not at the first call. What the parts throw that
 * come from elsewhere becomes a TokenizerError.
 */
function sound(file: string, build: () => Tokenizer): Tokenizer {
  try {
    const tokenizer = build();
    tokenizer.decode(tokenizer.encode(TRIAL).ids);
    return tokenizer;
  } catch (cause) {
    if (cause instanceof TokenizerError) throw cause;
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new TokenizerError({ file, expected: "a tokenizer of sound parts", found }, { cause });
  }
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(file));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new TokenizerError({ file, expected: "readable UTF-8 text", found }, { cause });
  }
}

async function readJson(file: string): Promise<Json | undefined> {
  const text = await readText(file);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const found = cause instanceof Error ? cause.message.slice(0, 160) : String(cause);
    throw new TokenizerError({ file, expected: "valid JSON", found }, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TokenizerError({
      file,
      expected: "a JSON object",
      found: Array.isArray(value) ? "an array" : `${value}`,
    });
  }
  return value as Json;
}
