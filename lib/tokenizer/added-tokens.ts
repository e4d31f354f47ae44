/**
 * @file Added tokens: literal strings that are cut out of a text before anything else happens to it.
 * Follows `AddedVocabulary` of the Rust tokenizers: leftmost, then longest; lstrip and rstrip take the
 * whitespace
 * beside a match, single_word wants no word character beside it.
 */
import { WHITE_SPACE, WORD } from "./unicode.js";

/** An added token as tokenizer.json writes it. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly single_word?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  /** Look for it in the normalised text. Default: unless special. */
  readonly normalized?: boolean;
  readonly special?: boolean;
}

/** A stretch of text between added tokens, or the id of one. */
export type Segment = string | number;

const LAST_IS_WORD = new RegExp(`[${WORD}]$`, "u");
const FIRST_IS_WORD = new RegExp(`^[${WORD}]`, "u");
const TRAILING_SPACE = new RegExp(`[${WHITE_SPACE}]$`, "u");
const LEADING_SPACES = new RegExp(`^[${WHITE_SPACE}]*`, "u");

/** Makes the function that cuts the given tokens out; `contents` are the strings to look for, by token. */
export function tokenSplitter(contents: ReadonlyMap<string, AddedToken>): (text: string) => Segment[] {
  if (contents.size === 0) return (text) => (text === "" ? [] : [text]);
  const longestFirst = [...contents.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(
    longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|"),
    "gu",
  );
  return (text) => {
    const segments: Segment[] = [];
    let done = 0;
    for (const match of text.matchAll(pattern)) {
      const token = contents.get(match[0])!;
      let start = match.index;
      let stop = start + match[0].length;
      if (token.single_word && (endsWithWord(text, start) || FIRST_IS_WORD.test(text.slice(stop, stop + 2))))
        continue;
      if (token.lstrip) while (start > done && TRAILING_SPACE.test(text[start - 1]!)) start--;
      if (token.rstrip) stop += LEADING_SPACES.exec(text.slice(stop))![0].length;
      if (start > done) segments.push(text.slice(done, start));
      segments.push(token.id);
      done = Math.max(done, stop);
    }
    if (done < text.length) segments.push(text.slice(done));
    return segments;
  };
}

function endsWithWord(text: string, end: number): boolean {
  return LAST_IS_WORD.test(text.slice(Math.max(0, end - 2), end));
}
