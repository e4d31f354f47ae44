/** @file Hides secrets of a configuration before it is printed or logged. Pure: the configuration itself is not changed. */
import { z } from "zod";
import { childOf, isRecord, type Schema, unwrap } from "./schema-walk.js";

/** What is printed in place of a secret. */
export const MASK = "***";

const SECRET_KEYS =
  /^(.*(password|passphrase|secret|apikey|credentials?|authorization|privatekey)|.*(auth|access|bearer|api)token|token)$/;

/** Schema of a text that must never be printed: it is masked in logs and in error lines. */
export function secret() {
  return z.string().min(1).meta({ secret: true });
}

/**
 * A copy of `config` for printing: values whose schema is `secret()` or whose key names a secret (`password`, `token`,
 * `apiKey` …) become `***`, and passwords inside URLs too. Paths to secrets (`authTokensFile`) are not secrets.
 */
export function maskSecrets(config: unknown, schema?: Schema): unknown {
  return mask(config, schema, "");
}

function mask(value: unknown, schema: Schema | undefined, key: string): unknown {
  if (value === undefined || value === null) return value;
  if ((schema && unwrap(schema).secret) || isSecretKey(key)) return MASK;
  if (typeof value === "string") return maskUrl(value);
  if (Array.isArray(value)) {
    return value.map((item, i) => mask(item, schema && childOf(schema, i, value), ""));
  }
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name,
      mask(item, schema && childOf(schema, name, value), name),
    ]),
  );
}

/** True when a key by its name alone holds a secret. */
export function isSecretKey(key: string): boolean {
  return SECRET_KEYS.test(key.replace(/[-_]/g, "").toLowerCase());
}

/** `nats://user:***@host` for `nats://user:word@host`; other text unchanged. */
export function maskUrl(text: string): string {
  return text.replace(/([a-z][a-z0-9+.-]*:\/\/)([^/@\s:]*):([^/@\s]+)@/gi, `$1$2:${MASK}@`);
}
