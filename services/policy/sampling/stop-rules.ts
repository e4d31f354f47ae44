/**
 * @file When a row ends: an end-of-sequence id, a completed stop string, or its length. Stop strings follow Hugging
 * Face's rule: some occurrence in prompt and continuation ends inside the newest token; the text is compared as UTF-8
 * bytes and not cut. In: ids one at a time. Out: why the row ends, or undefined.
 */

/** Why a row ended. */
export type FinishReason = "eos" | "stop" | "length";

/** Bytes of a token's text, as the vocabulary spells it. */
export type TokenBytes = (id: number) => Uint8Array;

/** Looks for stop strings in the text of one row, token by token. Keeps only as many bytes as a match can need. */
export class StopStringMatcher {
  readonly #stops: readonly Buffer[];
  readonly #tokenBytes: TokenBytes;
  readonly #keep: number;
  #tail: Buffer = Buffer.alloc(0);

  /** `promptIds` is the row's prompt: an occurrence may begin in it. */
  constructor(stopStrings: readonly string[], tokenBytes: TokenBytes, promptIds: readonly number[]) {
    this.#stops = stopStrings.map((text) => Buffer.from(text, "utf8"));
    this.#tokenBytes = tokenBytes;
    this.#keep = Math.max(0, ...this.#stops.map((stop) => stop.length - 1));
    // the last `keep` bytes of the prompt need at most as many tokens, unless tokens are empty
    for (const id of promptIds.slice(-4 * (this.#keep + 1))) this.#append(id);
  }

  #append(id: number): Buffer {
    const text = Buffer.concat([this.#tail, this.#tokenBytes(id)]);
    this.#tail = text.subarray(Math.max(0, text.length - this.#keep));
    return text;
  }

  /** Takes the newest id; true if a stop string now ends inside it. */
  push(id: number): boolean {
    const before = this.#tail.length;
    const text = this.#append(id);
    if (text.length === before) return false; // a token without text completes nothing
    return this.#stops.some((stop) => text.indexOf(stop, Math.max(0, before - stop.length + 1)) >= 0);
  }
}

/** What ends a row. */
export interface StopRules {
  readonly eosTokenIds: readonly number[];
  readonly maxNewTokens: number;
  /** Absent: no stop strings. */
  readonly stopStrings?: StopStringMatcher;
}

/** Whether the row ends with `id` as its newest of `generated` tokens. An EOS outranks a stop string, both the length. */
export function finishReason(rules: StopRules, id: number, generated: number): FinishReason | undefined {
  const stopped = rules.stopStrings?.push(id) ?? false;
  if (rules.eosTokenIds.includes(id)) return "eos";
  if (stopped) return "stop";
  return generated >= rules.maxNewTokens ? "length" : undefined;
}
