/**
 * @file Python's `str.strip()`: the whitespace it removes is not what JavaScript's `trim()` removes.
 */

// Python also strips U+001C..U+001F and U+0085, and keeps U+FEFF
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const LEADING = new RegExp(`^[${SPACE}]+`);
const STARTS_WITH_SPACE = new RegExp(`^[${SPACE}]`);
const IS_SPACE = new RegExp(`[${SPACE}]`);

/** The text without leading and trailing whitespace, as Python 3 strips it. */
export function pythonStrip(text: string): string {
  const start = text.replace(LEADING, "");
  let end = start.length; // a trailing-anchored expression would be quadratic on long runs of spaces
  while (end > 0 && IS_SPACE.test(start[end - 1])) end--;
  return start.slice(0, end);
}

/** Whether the first character is whitespace for Python. */
export function startsWithPythonSpace(text: string): boolean {
  return STARTS_WITH_SPACE.test(text);
}
