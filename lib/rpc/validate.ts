/**
 * @file Checks of request fields that collect every violation before they throw.
 *
 *   const v = new Validator();
 *   v.list("texts", request.texts).minItems(1).maxItems(256);
 *   request.texts.forEach((text, i) => v.text(`texts[${i}]`, text).maxBytes(262144));
 *   v.number("options.top_p", request.options?.topP).above(0).atMost(1);
 *   v.check(); // throws InvalidFieldError if anything was wrong
 */
import { type ErrorFacts, InvalidFieldError, type Violation } from "./errors.js";

const maxKept = 100;

/** Collects violations. Checks of an absent value (undefined) pass, except `required`. */
export class Validator {
  readonly violations: Violation[] = [];
  private facts: ErrorFacts | undefined;

  /** Notes that something is wrong with a field. */
  reject(field: string, description: string, facts?: ErrorFacts): this {
    if (this.violations.length < maxKept) this.violations.push({ field, description });
    this.facts ??= facts;
    return this;
  }

  /** Notes a violation unless `holds`. */
  require(holds: boolean, field: string, description: string, facts?: ErrorFacts): this {
    return holds ? this : this.reject(field, description, facts);
  }

  /** Any one field. */
  field<T>(field: string, value: T): FieldCheck<T> {
    return new FieldCheck(this, field, value);
  }

  /** A number or 64-bit integer. */
  number(field: string, value: number | bigint | undefined): NumberCheck {
    return new NumberCheck(this, field, value);
  }

  /** A string. */
  text(field: string, value: string | undefined): TextCheck {
    return new TextCheck(this, field, value);
  }

  /** A repeated field. */
  list(field: string, value: readonly unknown[] | undefined): ListCheck {
    return new ListCheck(this, field, value);
  }

  /** Throws InvalidFieldError with everything noted; does nothing if all was well. */
  check(): void {
    if (this.violations.length > 0) throw new InvalidFieldError(this.violations, this.facts);
  }
}

/** Checks that fit any type. Each returns itself, so that checks chain. */
export class FieldCheck<T> {
  constructor(
    protected readonly v: Validator,
    readonly name: string,
    protected readonly value: T,
  ) {}

  /** Must be present (proto3 optional, message or oneof). */
  required(): this {
    return this.must(this.value !== undefined && this.value !== null, "is required");
  }

  /** Must be one of these. */
  oneOf(accepted: readonly NonNullable<T>[]): this {
    const { value } = this;
    if (value === undefined || value === null) return this;
    return this.must(
      accepted.includes(value),
      `is ${show(value)}; accepted: ${accepted.map(show).join(", ")}`,
    );
  }

  /** Must fulfil `holds`; else the description, after the field's name. */
  must(holds: boolean, description: string, facts?: ErrorFacts): this {
    this.v.require(holds, this.name, description, facts);
    return this;
  }
}

/** Checks of numbers; NaN and infinities fail every one of them. */
export class NumberCheck extends FieldCheck<number | bigint | undefined> {
  atLeast(min: number): this {
    return this.compare((x) => x >= min, `at least ${min}`);
  }

  atMost(max: number): this {
    return this.compare((x) => x <= max, `at most ${max}`);
  }

  above(min: number): this {
    return this.compare((x) => x > min, `above ${min}`);
  }

  below(max: number): this {
    return this.compare((x) => x < max, `below ${max}`);
  }

  /** Must not be NaN or infinite. */
  finite(): this {
    return this.compare(() => true, "a finite number");
  }

  private compare(holds: (x: number | bigint) => boolean, accepted: string): this {
    const { value } = this;
    if (value === undefined) return this;
    const finite = typeof value === "bigint" || Number.isFinite(value);
    return this.must(finite && holds(value), `is ${value}; accepted: ${accepted}`);
  }
}

/** Checks of strings. */
export class TextCheck extends FieldCheck<string | undefined> {
  notEmpty(): this {
    return this.must(this.value !== "", "is empty");
  }

  /** Limits the size in UTF-8 bytes. */
  maxBytes(max: number): this {
    if (this.value === undefined || this.value.length * 3 <= max) return this; // UTF-16 unit: at most 3 bytes
    const bytes = Buffer.byteLength(this.value, "utf8");
    return this.must(bytes <= max, `has ${bytes} bytes; accepted: at most ${max}`, {
      reason: "INPUT_TOO_LONG",
      facts: { max: String(max), actual: String(bytes) },
    });
  }
}

/** Checks of repeated fields. */
export class ListCheck extends FieldCheck<readonly unknown[] | undefined> {
  minItems(min: number): this {
    const count = this.value?.length ?? 0;
    return this.must(count >= min, `has ${count} items; accepted: at least ${min}`);
  }

  maxItems(max: number): this {
    const count = this.value?.length ?? 0;
    return this.must(count <= max, `has ${count} items; accepted: at most ${max}`);
  }

  /** Must be empty, or have as many items as another field. */
  emptyOrAsLongAs(other: string, length: number): this {
    const count = this.value?.length ?? 0;
    return this.must(
      count === 0 || count === length,
      `has ${count} items; accepted: none, or ${length} as ${other} has`,
    );
  }
}

function show(value: unknown): string {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`;
}
