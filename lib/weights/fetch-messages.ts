/** @file What a fetch thread and its owner say to each other. */
import * as errors from "./errors.js";
import type { FetchObjectOptions } from "./fetch-object.js";
import type { WeightsManifest } from "./manifest.js";
import type { OpenOptions } from "./open.js";

/** What the thread is started with. */
export interface FetchThreadData {
  readonly url: string;
  readonly options: Omit<OpenOptions, "log">;
}

/** To the thread. */
export type FetchRequest =
  | {
      readonly type: "fetch";
      readonly call: number;
      readonly manifest: WeightsManifest;
      readonly options: FetchObjectOptions;
    }
  | { readonly type: "cancel"; readonly call: number };

/** From the thread. The tensors' memory comes along. */
export type FetchReply =
  | { readonly call: number; readonly tensors: Map<string, Float32Array> }
  | { readonly call: number; readonly error: ErrorFacts };

/** What survives of an error on its way between threads, which its class does not. */
export interface ErrorFacts {
  readonly message: string;
  readonly stack: string | undefined;
  /** `name`, and of errors of this library all that they say of themselves. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Facts of what was thrown. */
export function factsOf(error: unknown): ErrorFacts {
  if (!(error instanceof Error)) return { message: String(error), stack: undefined, fields: {} };
  const { message, stack, name } = error;
  // fields of strangers may hold what cannot be sent
  return { message, stack, fields: prototypeOf(name) ? { ...error } : { name } };
}

/** The error again; an instance of its class, where that is one of ours. */
export function errorOf({ message, stack, fields }: ErrorFacts): Error {
  const error = new Error(message);
  Object.setPrototypeOf(error, prototypeOf(fields.name) ?? Error.prototype);
  return Object.assign(error, fields, stack !== undefined && { stack });
}

function prototypeOf(name: unknown): object | undefined {
  return (errors as Readonly<Record<string, { prototype: object }>>)[String(name)]?.prototype;
}
