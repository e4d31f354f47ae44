/**
 * @file The wrapper around a text or a pair: which special ids go where, and which segment each id belongs
 * to.
 * In: `post_processor` of tokenizer.json. Out: a template of ids for one text and one for two.
 */
import { TokenizerError } from "./errors.js";

/** One piece of a wrapper: a special id, or the ids of text 0 or 1. */
export type TemplatePiece =
  | { readonly special: number; readonly typeId: number }
  | { readonly text: 0 | 1; readonly typeId: number };

/** Wrappers for one text and for a pair. */
export interface Wrapper {
  readonly single: readonly TemplatePiece[];
  readonly pair: readonly TemplatePiece[];
}

/** Texts one after the other, no specials. */
const PLAIN: Wrapper = {
  single: [{ text: 0, typeId: 0 }],
  pair: [
    { text: 0, typeId: 0 },
    { text: 1, typeId: 1 },
  ],
};

type Json = Readonly<Record<string, unknown>>;

/**
 * Reads a post-processor; `file` names it in errors. Throws {@link TokenizerError} for what we do not know.
 */
export function readWrapper(config: unknown, file: string): Wrapper {
  if (config === null || config === undefined) return PLAIN;
  const json = config as Json;
  switch (json.type) {
    case "ByteLevel": // adjusts offsets only
      return PLAIN;
    case "TemplateProcessing":
      return readTemplates(json, file);
    case "BertProcessing":
    case "RobertaProcessing":
      return readPairOfSpecials(json, file);
    case "Sequence": {
      const processors = (Array.isArray(json.processors) ? json.processors : []) as unknown[];
      const adding = processors.filter((processor) => asObject(processor)?.type !== "ByteLevel");
      if (adding.length <= 1) return readWrapper(adding[0], file);
      throw unknown(file, "a Sequence with one processor that adds tokens", `${adding.length}`);
    }
    default:
      throw unknown(file, "a known post_processor type", JSON.stringify(json.type));
  }
}

function readTemplates(json: Json, file: string): Wrapper {
  const specials = asObject(json.special_tokens) ?? {};
  const typeOf = ({ type_id: typeId = 0 }: Json): number => {
    if (typeId === 0 || typeId === 1) return typeId;
    throw unknown(file, "a type_id of 0 or 1", JSON.stringify(typeId));
  };
  const read = (template: unknown): TemplatePiece[] => {
    if (!Array.isArray(template)) throw unknown(file, "a template that is a list", typeof template);
    return template.flatMap((entry: unknown): TemplatePiece[] => {
      const text = asObject(asObject(entry)?.Sequence);
      if (text) return [{ text: text.id === "B" ? 1 : 0, typeId: typeOf(text) }];
      const special = asObject(asObject(entry)?.SpecialToken);
      const name = String(special?.id);
      const ids = Object.hasOwn(specials, name) ? asObject(specials[name])?.ids : undefined;
      if (!special || !Array.isArray(ids) || !ids.every((id) => Number.isSafeInteger(id))) {
        throw unknown(
          file,
          "special_tokens to list the ids of each token in the template",
          JSON.stringify(entry),
        );
      }
      return ids.map((id: number) => ({ special: id, typeId: typeOf(special) }));
    });
  };
  return { single: read(json.single), pair: json.pair ? read(json.pair) : PLAIN.pair };
}

function asObject(value: unknown): Json | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function readPairOfSpecials(json: Json, file: string): Wrapper {
  const idOf = (role: "cls" | "sep"): number => {
    const entry = json[role];
    const id = Array.isArray(entry) ? entry[1] : undefined;
    if (!Number.isSafeInteger(id))
      throw unknown(file, `${role}: [token, id]`, JSON.stringify(entry) ?? "nothing");
    return id as number;
  };
  const cls = idOf("cls");
  const sep = idOf("sep");
  const single: TemplatePiece[] = [
    { special: cls, typeId: 0 },
    { text: 0, typeId: 0 },
    { special: sep, typeId: 0 },
  ];
  // RoBERTa sets the second text off with two separators, BERT by its segment
  const roberta = json.type === "RobertaProcessing";
  const second = roberta ? 0 : 1;
  const pair: TemplatePiece[] = [...single];
  if (roberta) pair.push({ special: sep, typeId: 0 });
  pair.push({ text: 1, typeId: second }, { special: sep, typeId: second });
  return { single, pair };
}

function unknown(file: string, expected: string, found: string): TokenizerError {
  return new TokenizerError({ file: `${file}: post_processor`, expected, found });
}
