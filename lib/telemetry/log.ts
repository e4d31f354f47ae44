/**
 * @file JSON log lines on stderr: time, level, service, instance, trace_id and span_id of the active span, message.
 * Secrets never reach a line: keys that name one are replaced, and so are bearer tokens and URL passwords in texts.
 */
import pino, { type DestinationStream, type Logger } from "pino";
import { activeTraceIds } from "./tracing.js";

/** A structured logger (pino): `log.info({ field: 1 }, "message")`, `log.child({ run })`. */
export type Log = Logger;

/** Levels of the log, from all to nothing. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** How much is logged. */
export type LogLevel = (typeof LOG_LEVELS)[number];

const SECRET_KEYS = new Set([
  "authorization",
  "Authorization",
  "password",
  "passphrase",
  "secret",
  "token",
  "authToken",
  "bearerToken",
  "accessToken",
  "apiKey",
  "api_key",
  "privateKey",
  "credentials",
]);
/** How deep facts are searched for secrets. */
const SECRET_DEPTH = 5;

/** Options of createLog. */
export interface LogOptions {
  service: string;
  instance: string;
  /** Default: info. */
  level?: LogLevel;
  /** Where lines go; default: file descriptor 2, written at once. */
  destination?: DestinationStream;
}

/** A logger for one process. */
export function createLog({ service, instance, level = "info", destination }: LogOptions): Log {
  const log = pino(
    {
      level,
      base: { service, instance, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: "message",
      formatters: {
        level: (label) => ({ level: label }),
        log: withoutSecrets,
      },
      serializers: { err: (error: Error) => withoutSecrets({ ...pino.stdSerializers.err(error) }) },
      mixin: () => {
        const ids = activeTraceIds();
        return ids ? { trace_id: ids.traceId, span_id: ids.spanId } : {};
      },
      hooks: { streamWrite: redactText },
    },
    destination ?? stderr(),
  );
  // pino formats no child's bindings; children inherit this
  const { child } = log;
  log.child = function (this: Log, bindings: object, ...rest: never[]) {
    return child.call(this, withoutSecrets(bindings), ...rest);
  } as Log["child"];
  return log;
}

/** A log that writes nothing, for callers that were given none. */
export function silentLog(): Log {
  return pino({ level: "silent" });
}

/**
 * Facts with what secret keys hold replaced, down to five levels; facts without secrets come back as they are. pino's own redaction walks
 * every path of every record: a tenth of a server's CPU time while it refused 500 calls a second.
 */
function withoutSecrets<T extends object>(facts: T, depth = SECRET_DEPTH): T {
  let clean = facts as Record<string, unknown>;
  for (const [key, value] of Object.entries(facts)) {
    const safe = SECRET_KEYS.has(key)
      ? "***"
      : depth > 1 && isTree(value)
        ? withoutSecrets(value, depth - 1)
        : value;
    if (safe === value) continue;
    if (clean === facts) clean = (Array.isArray(facts) ? [...facts] : { ...facts }) as typeof clean;
    clean[key] = safe;
  }
  return clean as T;
}

/** An object or array literal; errors have a serializer, and anything else says itself what it is in JSON. */
function isTree(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === Array.prototype || prototype === null;
}

/** Hides bearer tokens and URL passwords inside a text. */
export function redactText(text: string): string {
  return text
    .replace(/\b(bearer\s+)[\w.~+/=-]{4,}/gi, "$1***")
    .replace(/([a-z][a-z0-9+.-]*:\/\/[^/@\s:"]*):[^/@\s"]+@/gi, "$1:***@");
}

function stderr(): DestinationStream {
  const stream = pino.destination({ fd: 2, sync: true });
  stream.on("error", () => {}); // whoever read our stderr is gone: not a reason to stop serving
  return stream;
}
