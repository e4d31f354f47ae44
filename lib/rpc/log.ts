/** @file The part of a logger that the kit uses; pino's satisfies it. */

/** Writes one record: facts first, then a sentence. */
export type LogFunction = (facts: object, message?: string) => void;

/** A structured logger. */
export interface Logger {
  debug: LogFunction;
  info: LogFunction;
  warn: LogFunction;
  error: LogFunction;
  /** A logger that adds `facts` to every record. */
  child(facts: Record<string, unknown>): Logger;
}

/** Writes nothing. */
export const silentLog: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
};
