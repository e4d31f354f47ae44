/**
 * @file What the head of the bus says about one version of the weights, and the names made from it. Pure.
 * In: JSON from the bus. Out: a checked manifest, or WeightsCorruptError.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { WeightsCorruptError } from "./errors.js";

const schema = z.object({
  run: z.string().min(1),
  model: z.string().min(1),
  version: z.int().min(0),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  bytes: z.int().min(8),
  object: z.string().min(1),
  dtype: z.literal("F32"),
  parameters: z.int().min(0),
  createdAt: z.string().min(1),
  publisher: z.string().min(1),
  traceparent: z.string().optional(),
});

/** One published version. Keys that a newer publisher adds are ignored. */
export interface WeightsManifest {
  /** Run that learned the weights. */
  run: string;
  /** Model they belong to; one run may publish several. */
  model: string;
  /** Rises with every publish. */
  version: number;
  /** Content digest, 64 hex digits: `weightsDigest` of lib/checkpoint, the same as of the checkpoint with these weights. */
  digest: string;
  /** Size of the object. */
  bytes: number;
  /** `<run>/<version>-<first 16 digits of the digest>`. */
  object: string;
  dtype: "F32";
  /** Numbers in all tensors together. */
  parameters: number;
  /** ISO 8601. */
  createdAt: string;
  /** Who published: host, process and a random part. */
  publisher: string;
  /** Span that published, so that a server's apply joins its trace. */
  traceparent?: string;
}

/** Name of the object of a version. Written once, never overwritten. */
export function objectName(run: string, version: number, digest: string): string {
  return `${run}/${version}-${digest.slice(0, 16)}`;
}

/** Version of an object by its name, or undefined when the name is none of ours. */
export function versionOfObject(object: string): number | undefined {
  const match = /\/(\d{1,15})-[0-9a-f]{16}$/.exec(object);
  return match ? Number(match[1]) : undefined;
}

/** Reads a manifest. `where` names the key or file in errors. Throws WeightsCorruptError. */
export function parseManifest(text: string, where: string): WeightsManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new WeightsCorruptError(
      { object: where, expected: "a manifest in JSON", found: brief(text) },
      { cause },
    );
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0];
    const expected = `a manifest (${path.join(".") || "object"}: ${message})`;
    throw new WeightsCorruptError({ object: where, expected, found: brief(text) }, { cause: parsed.error });
  }
  const manifest = parsed.data;
  const name = objectName(manifest.run, manifest.version, manifest.digest);
  if (manifest.object !== name) {
    throw new WeightsCorruptError({
      object: where,
      version: manifest.version,
      expected: `object ${name}`,
      found: manifest.object,
    });
  }
  return manifest;
}

/** True when both manifests are the same act of publishing. */
export function isSamePublish(a: WeightsManifest, b: WeightsManifest): boolean {
  return a.object === b.object && a.publisher === b.publisher && a.createdAt === b.createdAt;
}

/**
 * A name that is safe as a bucket, key or folder: the text itself when it is made of letters, digits, `-` and `_`, else a readable
 * part and a digest, so that two texts never share one.
 */
export function safeName(text: string): string {
  if (/^[A-Za-z0-9_-]{1,64}$/.test(text)) return text;
  const readable = text.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 40);
  return `${readable}-${createHash("sha256").update(text).digest("hex").slice(0, 12)}`;
}

function brief(text: string): string {
  return text.length > 60 ? `${JSON.stringify(text.slice(0, 60))}…` : JSON.stringify(text);
}
