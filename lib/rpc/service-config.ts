/**
 * @file The flags that every service takes, and those of services that hold a model: one schema fragment each, and the
 * parser that turns a command line into a frozen configuration (defaults < file < environment < flags).
 */
import { parseArgs } from "node:util";
import { z } from "zod";
import { ConfigError, duration, type Frozen, loadConfig } from "../config/index.js";

/** Fields of every service. */
export const serviceFields = {
  listen: z.string().default("127.0.0.1:0").describe("address to serve on; port 0 takes a free one"),
  adminListen: z.string().optional().describe("address of the admin services; default: none"),
  instance: z.string().optional().describe("name of this instance; default: host and process id"),
  tlsCert: z.string().optional().describe("PEM file with the certificate chain"),
  tlsKey: z.string().optional().describe("PEM file with its private key"),
  tlsClientCa: z.string().optional().describe("PEM file with the authorities of clients: mTLS"),
  authTokens: z.string().optional().describe("file with bearer tokens by role"),
  insecure: z.boolean().default(false).describe("allow plaintext on an address that others can reach"),
  reflection: z.enum(["open", "token", "off"]).default("open").describe("who may use reflection"),
  traceFile: z.string().optional().describe("append spans to this file as OTLP JSON lines"),
  prometheusPort: z.int().min(0).max(65_535).optional().describe("serve /metrics on this port"),
  prometheusHost: z
    .string()
    .min(1)
    .default("127.0.0.1")
    .describe("address of this machine that /metrics is served on; 0.0.0.0 for all"),
  logLevel: z
    .enum(["trace", "debug", "info", "warn", "error", "silent"])
    .default("info")
    .describe("log level"),
  keepalive: duration({ min: 100 })
    .default(60_000)
    .describe("interval of pings that find dead connections, at most 20s of which wait for an answer"),
  drainWithdraw: duration()
    .default(0)
    .describe("time between NOT_SERVING and the first refusal, e.g. 5s behind a load balancer"),
};

/** Fields of services that hold a model. */
export const modelFields = {
  model: z.string().describe("Hugging Face model directory"),
  name: z
    .string()
    .min(1)
    .optional()
    .describe("name under which the model is served; default: its directory's"),
  device: z.enum(["cpu", "cuda", "webgpu"]).default("cpu").describe("where to compute: cpu, cuda or webgpu"),
  threads: z.int().min(1).optional().describe("threads of one operator; default: all cores"),
};

const common = z.object(serviceFields);

/** What runService reads; every service's configuration extends it. */
export type ServiceConfig = Frozen<z.output<typeof common>>;

/** Schema of a service: the fields of all services and its own, and the rules that hold across them. */
export function serviceSchema<Own extends z.ZodRawShape>(own: Own) {
  return z.object({ ...serviceFields, ...own }).superRefine((config, issues) => {
    const { tlsCert, tlsKey, tlsClientCa } = config as z.output<typeof common>;
    const rule = (holds: boolean, path: string, message: string) => {
      if (!holds) issues.addIssue({ code: "custom", path: [path], message });
    };
    rule(
      (tlsCert === undefined) === (tlsKey === undefined),
      "tlsKey",
      "--tls-cert and --tls-key go together",
    );
    rule(tlsClientCa === undefined || tlsCert !== undefined, "tlsClientCa", "needs --tls-cert and --tls-key");
  });
}

/**
 * Reads a service's command line: `--admin-listen X` is `adminListen`, `--config FILE` names the file, and
 * `RLHF_REWARD_ADMIN_LISTEN` is the same for the service `reward`. Throws ConfigError with every problem found.
 */
export function parseServiceArgs<S extends z.ZodObject>(
  service: string,
  argv: readonly string[],
  schema: S,
): Frozen<z.output<S>> {
  const isBoolean = (field: unknown) =>
    field instanceof z.ZodBoolean || unwrapped(field) instanceof z.ZodBoolean;
  const options: Record<string, { type: "boolean" | "string" }> = { config: { type: "string" } };
  for (const [key, field] of Object.entries(schema.shape)) {
    options[toFlag(key)] = { type: isBoolean(field) ? "boolean" : "string" };
  }
  const { values, positionals, tokens } = parseArgs({
    args: [...argv],
    options,
    strict: false, // unknown flags are reported by loadConfig, with the nearest known one
    allowNegative: true,
    tokens: true,
  });
  const unknown = tokens.some((token) => token.kind === "option" && !Object.hasOwn(options, token.name));
  if (positionals.length > 0 && !unknown) {
    throw new ConfigError([`${positionals[0]}: unexpected argument → flags only`]);
  }
  const { config: file, ...flags } = values;
  if (typeof file === "boolean") throw new ConfigError(["--config: needs the path of a YAML or JSON file"]);
  return loadConfig(schema, {
    ...(file !== undefined && { file: String(file) }),
    env: { prefix: `RLHF_${service.toUpperCase()}_` },
    flags: Object.fromEntries(Object.entries(flags).map(([flag, value]) => [toKey(flag), value])),
  });
}

/** What `rlhf serve <service> --help` says. `usual` are flags that a first try takes. */
export function serviceHelp(service: string, schema: z.ZodObject, usual: string): string {
  const needed = "model" in schema.shape ? " --model DIR" : "";
  return [
    `rlhf serve ${service}${needed} [flags]`,
    describeFlags(schema),
    `Example:\n  rlhf serve ${service} ${usual}\n`,
  ].join("\n\n");
}

/** The flags of a schema with their descriptions and defaults, one a line. */
export function describeFlags(schema: z.ZodObject): string {
  const lines = Object.entries(schema.shape).map(([key, field]) => {
    const known = field as z.ZodType;
    const text = known.description ?? unwrapped(known)?.description ?? "";
    const fallback =
      known instanceof z.ZodDefault ? ` (default ${JSON.stringify(known.def.defaultValue)})` : "";
    return `  --${toFlag(key).padEnd(18)} ${text}${fallback}`;
  });
  return [...lines, `  --${"config".padEnd(18)} YAML or JSON file with the same keys`].join("\n");
}

/** What a default or an option is wrapped around. */
function unwrapped(field: unknown): z.ZodType | undefined {
  if (field instanceof z.ZodDefault || field instanceof z.ZodOptional) return field.unwrap() as z.ZodType;
  return undefined;
}

function toFlag(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function toKey(flag: string): string {
  return flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
