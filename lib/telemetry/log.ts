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

const SECRET_KEYS = [
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
];

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
  return pino(
    {
      level,
      base: { service, instance, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: "message",
      formatters: { level: (label) => ({ level: label }) },
      mixin: () => {
        const ids = activeTraceIds();
        return ids ? { trace_id: ids.traceId, span_id: ids.spanId } : {};
      },
      redact: {
        paths: SECRET_KEYS.flatMap((key) => [key, `*.${key}`, `*.*.${key}`, `*.*.*.${key}`]),
        censor: "***",
      },
      hooks: { streamWrite: redactText },
    },
    destination ?? stderr(),
  );
}

/** A log that writes nothing, for callers that were given none. */
export function silentLog(): Log {
  return pino({ level: "silent" });
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
