/**
 * @file Ids back to text: byte-level and WordPiece decoders, and the clean-up that older transformers did.
 */
import { tokenBytes } from "./byte-level.js";

/** Joins byte-level tokens: their bytes are one run of UTF-8, and what is no UTF-8 becomes U+FFFD. */
export function decodeByteLevel(tokens: readonly string[]): string {
  const bytes: number[] = [];
  for (const token of tokens) {
    for (const byte of tokenBytes(token) ?? Buffer.from(token, "utf8")) bytes.push(byte);
  }
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

/** Joins WordPiece tokens: those with the prefix continue the word before them. */
export function decodeWordPiece(tokens: readonly string[], prefix: string, cleanup: boolean): string {
  let out = "";
  for (const [i, token] of tokens.entries()) {
    const piece = i === 0 ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
    out += cleanup ? cleanUpSpaces(piece) : piece;
  }
  return out;
}

/** The ten replacements of `clean_up_tokenization`, in its order. */
const CLEAN_UP: readonly (readonly [string, string])[] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

/** Takes the spaces away that stand before punctuation and inside contractions. */
export function cleanUpSpaces(text: string): string {
  return CLEAN_UP.reduce((out, [from, to]) => out.replaceAll(from, to), text);
}
