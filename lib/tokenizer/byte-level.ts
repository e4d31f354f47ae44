/**
 * @file GPT-2's byte-level pieces: text is split into words, and each word's UTF-8 bytes are written as 256
 * printable
 * characters. And back: characters to bytes to text.
 */
import { WHITE_SPACE } from "./unicode.js";

/**
 * Characters that stand for the bytes 0 to 255. Printable Latin-1 stands for itself, the rest from U+0100 on.
 */
export const BYTE_CHARS: readonly string[] = (() => {
  const chars: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    chars.push(String.fromCharCode(printable ? byte : next++));
  }
  return chars;
})();

const BYTE_OF: ReadonlyMap<string, number> = new Map(BYTE_CHARS.map((char, byte) => [char, byte]));

const PIECES = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${WHITE_SPACE}\\p{L}\\p{N}]+|[${WHITE_SPACE}]+(?![^${WHITE_SPACE}])|[${WHITE_SPACE}]+`,
  "gu",
);

/** Splits text as GPT-2 does: contractions, words, numbers and other signs, each with the space before it. */
export function splitWords(text: string): string[] {
  return text.match(PIECES) ?? [];
}

const ASCII = /^[ -~]*$/;

/** A piece of text in byte characters. */
export function toByteChars(piece: string): string {
  if (ASCII.test(piece)) return piece.replaceAll(" ", BYTE_CHARS[0x20]!);
  let out = "";
  for (const byte of Buffer.from(piece, "utf8")) out += BYTE_CHARS[byte];
  return out;
}

/** Bytes of a token; undefined when it has a character that stands for none. */
export function tokenBytes(token: string): number[] | undefined {
  const bytes: number[] = [];
  for (const char of token) {
    const byte = BYTE_OF.get(char);
    if (byte === undefined) return undefined;
    bytes.push(byte);
  }
  return bytes;
}
