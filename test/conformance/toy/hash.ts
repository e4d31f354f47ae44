/** @file The arithmetic of the toy models. */

/** A number in [-2, 2) that depends on every character (FNV-1a). */
export function hash(text: string): number {
  let h = 2166136261;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
  return signed(mixed(h, 0));
}

/** Random numbers in [0, 1) from a seed. */
export function randomFrom(...seed: readonly number[]): () => number {
  const start = seed.reduce((h, number) => mixed(h, number), 1);
  let count = 0;
  return () => mixed(start, count++) / 2 ** 32;
}

/** 32 bits that depend on every bit of the numbers. */
export function mixed(h: number, ...numbers: readonly number[]): number {
  let bits = h;
  for (const number of numbers) {
    bits = Math.imul(bits ^ number, 2654435761);
    bits = Math.imul(bits ^ (bits >>> 15), 2246822519);
    bits = Math.imul(bits ^ (bits >>> 13), 3266489917);
    bits = (bits ^ (bits >>> 16)) >>> 0;
  }
  return bits;
}

/** 32 bits as a number in [-2, 2). */
export function signed(bits: number): number {
  return bits / 2 ** 30 - 2;
}
