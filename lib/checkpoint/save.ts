/**
 * @file Saves a model directory in the layout of `save_pretrained`, so that transformers and {@link
 * loadCheckpoint}
 * both read it: config.json, generation_config.json, model.safetensors, and the tokenizer's files.
 */
import { copyFile, readdir, stat, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type Float32Tensor, weightsDigest } from "./digest.js";
import { narrow } from "./dtypes.js";
import { CheckpointWriteError } from "./errors.js";
import type { JsonObject } from "./json-file.js";
import { WEIGHT_VERSION_KEY, WEIGHTS_DIGEST_KEY } from "./load.js";
import { replaceDirectory } from "./replace-directory.js";
import { type HostTensor, writeSafetensors } from "./safetensors.js";

/** The files that make up a tokenizer. */
export const TOKENIZER_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "vocab.txt",
] as const;

/** What {@link saveCheckpoint} writes. */
export interface CheckpointContent {
  /** Becomes config.json. */
  readonly config: JsonObject;
  /** Becomes generation_config.json when given. */
  readonly generationConfig?: JsonObject;
  /**
   * Parameters by checkpoint name, `v_head.summary.*` among them. A tied `lm_head.weight` is not repeated.
   */
  readonly tensors: ReadonlyMap<string, Float32Tensor>;
  /** Version kept in the file's metadata. Default 0. */
  readonly weightVersion?: number;
  /** Element type on disk. Default F32; narrower types lose precision and the stored digest. */
  readonly dtype?: "F32" | "F16" | "BF16";
  /** Directory whose tokenizer files are copied. */
  readonly tokenizerFrom?: string;
  /** Further files by name, such as a trained tokenizer's; a value that is no string is written as JSON. */
  readonly files?: Readonly<Record<string, string | Uint8Array | object>>;
}

/**
 * Writes a checkpoint to `dir`, replacing what was there as a whole or not at all.
 * Out: the digest of the tensors. Throws {@link CheckpointWriteError}; RangeError for data that does not fit
 * its shape.
 */
export async function saveCheckpoint(dir: string, content: CheckpointContent): Promise<{ digest: string }> {
  const { config, tensors, weightVersion = 0, dtype = "F32" } = content;
  if (!Number.isSafeInteger(weightVersion) || weightVersion < 0) {
    throw new RangeError(`weightVersion: expected a whole number of at least 0, got ${weightVersion}`);
  }
  for (const name of Object.keys(content.files ?? {})) {
    if (!/^[^/\\\0]+$/.test(name)) throw new RangeError(`files: ${name} is not a plain file name`);
  }
  const digest = await weightsDigest(tensors);
  const metadata: Record<string, string> = { [WEIGHT_VERSION_KEY]: String(weightVersion) };
  if (dtype === "F32") metadata[WEIGHTS_DIGEST_KEY] = digest;
  await replaceDirectory(dir, async (folder) => {
    await writeJson(join(folder, "config.json"), { ...config, [dtypeKey(config)]: TORCH_NAMES[dtype] });
    if (content.generationConfig) {
      await writeJson(join(folder, "generation_config.json"), content.generationConfig);
    }
    if (content.tokenizerFrom !== undefined) await copyTokenizer(content.tokenizerFrom, folder);
    for (const [name, value] of Object.entries(content.files ?? {})) {
      if (typeof value === "string" || value instanceof Uint8Array)
        await writeFile(join(folder, name), value);
      else await writeJson(join(folder, name), value);
    }
    await writeSafetensors(join(folder, "model.safetensors"), stored(tensors, dtype), metadata);
  });
  return { digest };
}

const TORCH_NAMES = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const;

/** transformers 5 calls the key `dtype`, older ones `torch_dtype`; a config keeps the word it has. */
function dtypeKey(config: JsonObject): string {
  return "dtype" in config ? "dtype" : "torch_dtype";
}

function stored(
  tensors: ReadonlyMap<string, Float32Tensor>,
  dtype: "F32" | "F16" | "BF16",
): Map<string, HostTensor> {
  const out = new Map<string, HostTensor>();
  for (const [name, { shape, data }] of tensors) {
    out.set(name, { dtype, shape, data: dtype === "F32" ? data : narrow(data, dtype) });
  }
  return out;
}

async function copyTokenizer(from: string, to: string): Promise<void> {
  const folder = resolve(from);
  if (!(await stat(folder).catch(() => undefined))?.isDirectory()) {
    throw new CheckpointWriteError(to, new Error(`${folder}: no tokenizer directory`));
  }
  const present = new Set(await readdir(folder));
  for (const name of TOKENIZER_FILES) {
    if (present.has(name)) await copyFile(join(folder, name), join(to, name));
  }
}

async function writeJson(path: string, value: object): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, undefined, 2)}\n`);
}
