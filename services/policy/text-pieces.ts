/**
 * @file Token ids to text while a sequence grows: bytes of each token, and the text that each new token completes.
 */
import { tokenBytes } from "../../lib/tokenizer/byte-level.js";
import type { Tokenizer } from "../../lib/tokenizer/index.js";
import type { TokenBytes } from "./sampling/stop-rules.js";

/** Bytes of every token of a byte-level vocabulary; none for ids that it does not have. Looked up once per id. */
export function createTokenBytes(tokenizer: Tokenizer): TokenBytes {
  const known: Uint8Array[] = [];
  return (id) => {
    known[id] ??= bytesOf(tokenizer, id);
    return known[id];
  };
}

function bytesOf(tokenizer: Tokenizer, id: number): Uint8Array {
  const token = tokenizer.idToToken(id);
  if (token === undefined) return new Uint8Array();
  // an added token is spelled as it is; most of those have only characters that stand for themselves
  const bytes = tokenizer.isSpecial(id) ? undefined : tokenBytes(token);
  return bytes ? Uint8Array.from(bytes) : Buffer.from(token, "utf8");
}

/** Text of one sequence, token by token: a character appears with the token that completes it. */
export class TextPieces {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly tokenBytes: TokenBytes,
  ) {}

  /** What `id` completes; empty for special tokens and for parts of a character. */
  next(id: number): string {
    if (this.tokenizer.isSpecial(id)) return "";
    return this.#decoder.decode(this.tokenBytes(id), { stream: true });
  }
}
