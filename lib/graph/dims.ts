/**
 * @file Dimensions of symbolic tensors. A dimension is a number, or a string that is a polynomial with integer
 * coefficients over names fixed at run time: `batch`, `batch*time`, `past+time`, `2*time-1`. Strings are kept in
 * one canonical form (terms and factors sorted), so two dimensions are equal exactly when they are `===`.
 */
import { GraphError } from "./errors.js";

/** A size: a number, or an expression over symbolic names that are fixed only at run time. */
export type Dim = number | string;

/** A tensor's dimensions, outermost first; `[]` is a scalar. */
export type Shape = readonly Dim[];

/** What each symbolic name is in one run. */
export type DimBindings = Readonly<Record<string, number>>;

/** Monomial (sorted names joined by `*`, empty for the constant) to its coefficient. */
type Polynomial = Map<string, number>;

/** The canonical form of `dim`; a constant expression becomes a number. Throws GraphError on malformed text. */
export function normalizeDim(dim: Dim): Dim {
  return typeof dim === "number" ? checkSize(dim) : format(parse(dim));
}

/** a + b. */
export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a + b;
  const sum = new Map(parse(a));
  for (const [term, count] of parse(b)) bump(sum, term, count);
  return format(sum);
}

/** a − b. */
export function subDims(a: Dim, b: Dim): Dim {
  return addDims(a, mulDims(b, -1));
}

/** a · b. */
export function mulDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a * b;
  return format(multiply(parse(a), parse(b)));
}

/** The product of all dimensions; 1 for none. */
export function sizeOf(shape: Shape): Dim {
  return shape.reduce<Dim>(mulDims, 1);
}

/** a / b when it is exact for every value of the names, else undefined. */
export function divideDims(a: Dim, b: Dim): Dim | undefined {
  if (b === 0) return undefined;
  const divisor = parse(b);
  const lead = leading(divisor);
  const quotient: Polynomial = new Map();
  let rest = parse(a);
  // Long division with one divisor: the leading term shrinks every round, so it ends.
  while (rest.size > 0) {
    const [term, count] = leading(rest);
    const factor = removeFactors(term, lead[0]);
    if (factor === undefined || count % lead[1] !== 0) return undefined;
    const step: Polynomial = new Map([[factor, count / lead[1]]]);
    bump(quotient, factor, count / lead[1]);
    const next = new Map(rest);
    for (const [t, c] of multiply(step, divisor)) bump(next, t, -c);
    rest = next;
  }
  return format(quotient);
}

/** The names in `dim`, sorted. */
export function dimNames(dim: Dim): string[] {
  if (typeof dim === "number") return [];
  const names = new Set<string>();
  for (const term of parse(dim).keys()) for (const name of factorsOf(term)) names.add(name);
  return [...names].sort();
}

/** The value of `dim` in a run. Throws GraphError when a name has no value. */
export function evalDim(dim: Dim, bindings: DimBindings): number {
  if (typeof dim === "number") return dim;
  let total = 0;
  for (const [term, count] of parse(dim)) {
    let product = count;
    for (const name of factorsOf(term)) {
      const value = bindings[name];
      if (value === undefined) throw new GraphError(`dimension ${dim}: ${name} has no value in this run`);
      product *= value;
    }
    total += product;
  }
  return total;
}

/** The value of every dimension of `shape` in a run. */
export function evalShape(shape: Shape, bindings: DimBindings): number[] {
  return shape.map((dim) => evalDim(dim, bindings));
}

/** The sum-of-products form of a dimension, for code that computes it at run time. */
export function dimTerms(dim: Dim): { coefficient: number; names: string[] }[] {
  return [...parse(dim)].map(([term, coefficient]) => ({ coefficient, names: factorsOf(term) }));
}

/** `[2, batch*time, 8]`, for messages. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Whether both shapes have the same dimensions. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** Whether no dimension is symbolic. */
export function isStatic(shape: Shape): shape is readonly number[] {
  return shape.every((dim) => typeof dim === "number");
}

/**
 * NumPy broadcasting of two shapes. A symbolic dimension broadcasts only against itself or a literal 1: what is
 * broadcast is then known before the run, and so is what a gradient must sum over.
 */
export function broadcastShapes(op: string, a: Shape, b: Shape): Dim[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    throw new GraphError(`${op}: cannot broadcast ${formatShape(a)} with ${formatShape(b)}`);
  });
}

/** `axis` as 0..rank-1, negative counting from the end. Throws GraphError when out of range. */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  const normalized = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || normalized < 0 || normalized >= rank) {
    throw new GraphError(`${op}: axis ${axis} is outside a tensor of rank ${rank}`);
  }
  return normalized;
}

function checkSize(size: number): number {
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new GraphError(`dimension ${size}: expected a whole number, at least 0, or a name`);
  }
  return size;
}

const parsed = new Map<string, Polynomial>();

function parse(dim: Dim): Polynomial {
  if (typeof dim === "number") return dim === 0 ? new Map() : new Map([["", dim]]);
  const known = parsed.get(dim);
  if (known) return known;
  const text = dim.replaceAll(/ *([+*-]) */g, "$1");
  const polynomial: Polynomial = new Map();
  // The text must be exactly a signed sum of products of names and whole numbers.
  if (!/^[+-]?\w+(?:\*\w+)*(?:[+-]\w+(?:\*\w+)*)*$/.test(text)) {
    throw new GraphError(`dimension "${dim}": expected names and whole numbers joined by +, - and *`);
  }
  for (const [, sign, term] of text.matchAll(/([+-]?)([^+-]+)/g)) {
    let count = sign === "-" ? -1 : 1;
    const names: string[] = [];
    for (const factor of term.split("*")) {
      if (/^\d+$/.test(factor)) count *= Number(factor);
      else if (/^[A-Za-z_]\w*$/.test(factor)) names.push(factor);
      else throw new GraphError(`dimension "${dim}": ${factor} is neither a name nor a whole number`);
    }
    bump(polynomial, names.sort().join("*"), count);
  }
  parsed.set(dim, polynomial);
  return polynomial;
}

function format(polynomial: Polynomial): Dim {
  const terms = [...polynomial].sort(([a], [b]) => compareTerms(a, b));
  if (terms.length === 0) return 0;
  if (terms.length === 1 && terms[0][0] === "") return terms[0][1];
  return terms
    .map(([term, count], i) => {
      const sign = count < 0 ? "-" : i > 0 ? "+" : "";
      const size = Math.abs(count);
      if (term === "") return `${sign}${size}`;
      return size === 1 ? `${sign}${term}` : `${sign}${size}*${term}`;
    })
    .join("");
}

/** Higher degree first, then by name; the constant last. */
function compareTerms(a: string, b: string): number {
  const degree = factorsOf(b).length - factorsOf(a).length;
  return degree !== 0 ? degree : a < b ? -1 : a > b ? 1 : 0;
}

function leading(polynomial: Polynomial): [string, number] {
  return [...polynomial].sort(([a], [b]) => compareTerms(a, b))[0];
}

function multiply(a: Polynomial, b: Polynomial): Polynomial {
  const product: Polynomial = new Map();
  for (const [s, m] of a) {
    for (const [t, n] of b) {
      bump(product, [...factorsOf(s), ...factorsOf(t)].sort().join("*"), m * n);
    }
  }
  return product;
}

function bump(polynomial: Polynomial, term: string, count: number): void {
  const sum = (polynomial.get(term) ?? 0) + count;
  if (sum === 0) polynomial.delete(term);
  else polynomial.set(term, sum);
}

function factorsOf(term: string): string[] {
  return term === "" ? [] : term.split("*");
}

/** `term` without the names of `divisor`, or undefined when one is missing. */
function removeFactors(term: string, divisor: string): string | undefined {
  const names = factorsOf(term);
  for (const name of factorsOf(divisor)) {
    const at = names.indexOf(name);
    if (at < 0) return undefined;
    names.splice(at, 1);
  }
  return names.join("*");
}
