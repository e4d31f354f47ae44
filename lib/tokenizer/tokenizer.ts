/**
 * @file A tokenizer out of the objects in tokenizer.json and tokenizer_config.json: added tokens are cut out,
 * the rest
 * is normalised, split and encoded, then truncated and wrapped. No I/O; load.ts reads the files.
 */
import { type AddedToken, type Segment, tokenSplitter } from "./added-tokens.js";
import { cleanUpSpaces } from "./decode.js";
import { TokenizerError } from "./errors.js";
import { readWrapper, type TemplatePiece } from "./post-processor.js";
import { findRoles } from "./special-roles.js";
import { type Json, readStages, readVocab } from "./stages.js";
import type { DecodeOptions, EncodeOptions, Encoding, Tokenizer } from "./types.js";
import { startsWithSpace, wellFormed } from "./unicode.js";

/** What {@link createTokenizer} is told besides tokenizer.json. */
export interface TokenizerSettings {
  /** tokenizer_config.json. */
  readonly config?: Json;
  /** special_tokens_map.json; its roles win over those of the config. */
  readonly specialTokensMap?: Json;
  /** Name of the source in errors. Default "tokenizer.json". */
  readonly file?: string;
}

/** Builds a tokenizer. `json` is the content of tokenizer.json. Throws {@link TokenizerError}. */
export function createTokenizer(json: Json, settings: TokenizerSettings = {}): Tokenizer {
  const { config = {}, specialTokensMap = {}, file = "tokenizer.json" } = settings;
  const vocab = readVocab(json.model, file);
  const added = readAddedTokens(json.added_tokens, vocab, file);
  const roles = findRoles({ ...config, ...specialTokensMap }, vocab, added);
  const stages = readStages(json, config, vocab, file);
  const wrapper = readWrapper(json.post_processor, file);

  const tokens = new Map<number, string>();
  for (const [token, id] of vocab) tokens.set(id, token);
  const ids = new Map(vocab);
  for (const { content, id } of added) {
    tokens.set(id, content);
    ids.set(content, id);
  }
  let vocabSize = 0;
  for (const id of tokens.keys()) vocabSize = Math.max(vocabSize, id + 1);
  const specials = new Set(added.filter(({ special }) => special).map(({ id }) => id));

  const raw = new Map<string, AddedToken>();
  const normalized = new Map<string, AddedToken>();
  for (const token of added) {
    const late = (token.normalized ?? !token.special) && stages.normalize !== undefined;
    (late ? normalized : raw).set(late ? stages.normalize!(token.content) : token.content, token);
  }
  normalized.delete("");
  const cutRaw = tokenSplitter(raw);
  const cutNormalized = tokenSplitter(normalized);

  /** Ids of a text without wrapper. */
  const encodeText = (text: string): number[] => {
    const out: number[] = [];
    let first = true;
    const encodeStretch = (stretch: string) => {
      for (const piece of stages.split(stretch, first)) for (const id of stages.encode(piece)) out.push(id);
    };
    const each = (segments: Segment[], handle: (stretch: string) => void) => {
      for (const segment of segments) {
        if (typeof segment === "number") out.push(segment);
        else handle(segment);
        first = false;
      }
    };
    each(cutRaw(text), (stretch) => {
      const clean = stages.normalize ? stages.normalize(stretch) : stretch;
      each(cutNormalized(clean), encodeStretch);
    });
    return out;
  };

  const encode = (text: string, options: EncodeOptions = {}): Encoding => {
    const { addSpecialTokens = true, maxLength, prefixSpace = false } = options;
    const pair = options.pair || undefined; // an empty second text is none, as in transformers
    const prepare = (given: string) => {
      const sound = wellFormed(given);
      return prefixSpace && isByteLevel(json) && sound !== "" && !startsWithSpace(sound)
        ? ` ${sound}`
        : sound;
    };
    const texts = [encodeText(prepare(text))];
    if (pair !== undefined) texts.push(encodeText(prepare(pair)));
    const template = pair === undefined ? wrapper.single : wrapper.pair;
    const extra = addSpecialTokens ? template.filter((piece) => "special" in piece).length : 0;
    const truncated = maxLength !== undefined && truncate(texts, maxLength, extra);
    return { ...wrap(texts, template, addSpecialTokens), truncated };
  };

  const decode = (
    given: readonly number[],
    { skipSpecialTokens = true, cleanUp = false }: DecodeOptions = {},
  ) => {
    const kept: string[] = [];
    for (const id of given) {
      const token = tokens.get(id);
      if (token !== undefined && !(skipSpecialTokens && specials.has(id))) kept.push(token);
    }
    const text = stages.decode(kept);
    return cleanUp ? cleanUpSpaces(text) : text;
  };

  return {
    vocabSize,
    modelMaxLength: readMaxLength(config),
    specialIds: roles,
    encode,
    encodeBatch: (texts, options) => texts.map((text) => encode(text, options)),
    decode,
    decodeToken: (id) => decode([id], { skipSpecialTokens: false }),
    tokenToId: (token) => ids.get(token),
    idToToken: (id) => tokens.get(id),
    isSpecial: (id) => specials.has(id),
  };
}

function isByteLevel(json: Json): boolean {
  const parts = [json.pre_tokenizer, json.decoder];
  return parts.some((part) => (part as Json | null | undefined)?.type === "ByteLevel");
}

function readAddedTokens(list: unknown, vocab: ReadonlyMap<string, number>, file: string): AddedToken[] {
  if (list === undefined || list === null) return [];
  const where = `${file}: added_tokens`;
  if (!Array.isArray(list)) throw new TokenizerError({ file: where, expected: "a list", found: typeof list });
  const tokens = (list as AddedToken[]).filter((token, i) => {
    const { id, content } = token ?? {};
    if (typeof content !== "string" || !Number.isInteger(id) || id < 0 || id >= 2 ** 31) {
      const found = JSON.stringify(token)?.slice(0, 80) ?? "nothing";
      throw new TokenizerError({ file: `${where}[${i}]`, expected: "id and content", found });
    }
    const base = vocab.get(content);
    if (base !== undefined && base !== id) {
      const expected = `id ${base} for ${JSON.stringify(content)}, as in the vocabulary`;
      throw new TokenizerError({ file: `${where}[${i}]`, expected, found: `${id}` });
    }
    return content !== "";
  });
  return tokens;
}

/** Limits above 10^20 are transformers' way to say that there is none. */
function readMaxLength(config: Json): number {
  const limit = config.model_max_length;
  return typeof limit === "number" && limit > 0 && limit < 1e20
    ? Math.floor(limit)
    : Number.POSITIVE_INFINITY;
}

/**
 * Cuts the texts in place so that they fit `maxLength` with `extra` special ids, the longer text first.
 * Out: whether anything was cut.
 */
function truncate(texts: number[][], maxLength: number, extra: number): boolean {
  const room = maxLength - extra;
  if (!Number.isInteger(maxLength) || room < 0) {
    throw new RangeError(`maxLength: expected a whole number of at least ${extra}, got ${maxLength}`);
  }
  const [a, b] = texts as [number[], number[]?];
  if (a.length + (b?.length ?? 0) <= room) return false;
  if (b === undefined) {
    a.length = room;
    return true;
  }
  const [short, long] = a.length <= b.length ? [a, b] : [b, a];
  if (2 * short.length > room) {
    // both are too long: they share the room, the one that was longer gets the odd place
    short.length = Math.min(short.length, Math.floor(room / 2));
  }
  long.length = Math.min(long.length, room - short.length);
  return true;
}

function wrap(
  texts: readonly number[][],
  template: readonly TemplatePiece[],
  addSpecialTokens: boolean,
): { ids: number[]; typeIds: number[] } {
  const ids: number[] = [];
  const typeIds: number[] = [];
  for (const piece of template) {
    if ("special" in piece) {
      if (!addSpecialTokens) continue;
      ids.push(piece.special);
      typeIds.push(piece.typeId);
      continue;
    }
    for (const id of texts[piece.text]!) {
      ids.push(id);
      typeIds.push(piece.typeId);
    }
  }
  return { ids, typeIds };
}
