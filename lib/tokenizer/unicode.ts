/**
 * @file Character classes as Unicode (and Rust, and Python) define them. JavaScript's `\s` is another set: it
 * has
 * U+FEFF and lacks U+0085.
 */

/** Body of a character class: Unicode White_Space. */
export const WHITE_SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

/** Body of a character class: what Rust's `\w` matches. */
export const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";

const PYTHON_SPACE = new RegExp(`^[${WHITE_SPACE}\\x1c-\\x1f]`, "u");

/** Whether a text begins with what Python's `str.isspace` calls whitespace. */
export function startsWithSpace(text: string): boolean {
  return PYTHON_SPACE.test(text);
}

/**
 * The text with U+FFFD for every half of a surrogate pair that stands alone, as it would arrive over the
 * wire.
 */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}
