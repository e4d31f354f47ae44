/**
 * @file Which token plays which part: roles from tokenizer_config.json and special_tokens_map.json, with the
 * defaults
 * of the tokenizer's class, and new ids for those that the vocabulary does not have.
 */
import type { AddedToken } from "./added-tokens.js";
import { SPECIAL_ROLES, type SpecialRole } from "./types.js";

type Json = Readonly<Record<string, unknown>>;

const BERT: Partial<Record<SpecialRole, string>> = {
  unk: "[UNK]",
  sep: "[SEP]",
  pad: "[PAD]",
  cls: "[CLS]",
  mask: "[MASK]",
};
const GPT2: Partial<Record<SpecialRole, string>> = {
  bos: "<|endoftext|>",
  eos: "<|endoftext|>",
  unk: "<|endoftext|>",
};
const ROBERTA: Partial<Record<SpecialRole, string>> = {
  bos: "<s>",
  eos: "</s>",
  unk: "<unk>",
  sep: "</s>",
  pad: "<pad>",
  cls: "<s>",
  mask: "<mask>",
};

/** Roles that a tokenizer class has when its files say nothing. */
export const CLASS_ROLES: Readonly<Record<string, Partial<Record<SpecialRole, string>>>> = {
  BertTokenizer: BERT,
  DistilBertTokenizer: BERT,
  GPT2Tokenizer: GPT2,
  RobertaTokenizer: ROBERTA,
};

/** The class without its "Fast": both have the same defaults. */
export function tokenizerClass(config: Json): string | undefined {
  const name = config.tokenizer_class;
  return typeof name === "string" ? name.replace(/Fast$/, "") : undefined;
}

/**
 * Ids by role. `added` is completed in place: a role's token becomes a special added token if it was not one,
 * with the
 * next free id when the vocabulary lacks it.
 */
export function findRoles(
  config: Json,
  vocab: ReadonlyMap<string, number>,
  added: AddedToken[],
): Record<SpecialRole, number | undefined> {
  const className = tokenizerClass(config);
  const defaults =
    className !== undefined && Object.hasOwn(CLASS_ROLES, className) ? CLASS_ROLES[className]! : {};
  const byContent = new Map(added.map((token, index) => [token.content, index]));
  let next = Math.max(-1, ...added.map(({ id }) => id));
  for (const id of vocab.values()) next = Math.max(next, id);

  const declare = (value: unknown, fallback: string | undefined, role?: SpecialRole): number | undefined => {
    const given = typeof value === "object" && value !== null ? (value as Json) : { content: value };
    const content = typeof given.content === "string" ? given.content : fallback;
    if (content === undefined || content === "") return undefined;
    const index = byContent.get(content);
    if (index !== undefined) {
      added[index] = { ...added[index]!, special: true, normalized: added[index]!.normalized ?? false };
      return added[index]!.id;
    }
    const known = vocab.get(content);
    // a default that the vocabulary does not have is no token of this tokenizer
    if (known === undefined && given.content === undefined) return undefined;
    const token: AddedToken = {
      id: known ?? ++next,
      content,
      single_word: given.single_word === true,
      // RoBERTa's mask stands for a word together with the space before it
      lstrip:
        given.lstrip === true ||
        (role === "mask" && className === "RobertaTokenizer" && given.lstrip === undefined),
      rstrip: given.rstrip === true,
      normalized: given.normalized === true,
      special: true,
    };
    byContent.set(content, added.push(token) - 1);
    return token.id;
  };

  const ids = {} as Record<SpecialRole, number | undefined>;
  for (const role of SPECIAL_ROLES) ids[role] = declare(config[`${role}_token`], defaults[role], role);
  const more = config.additional_special_tokens ?? config.extra_special_tokens;
  if (Array.isArray(more)) for (const token of more) declare(token, undefined);
  return ids;
}
