/**
 * @file Loads a Hugging Face model directory: configuration, and the parameters a model asks for as float32.
 * In: a directory and the specs. Out: everything or a {@link CheckpointError}; nothing is half loaded.
 */
import { access, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { digestOrder, WeightsHasher } from "./digest.js";
import { CheckpointError } from "./errors.js";
import { type JsonObject, readJsonObject } from "./json-file.js";
import { TorchFile } from "./pytorch-bin.js";
import { recoverDirectory } from "./replace-directory.js";
import { SafetensorsFile } from "./safetensors.js";
import { familyPrefix, matchStateDict, type TensorSpec } from "./state-dict.js";

/** `__metadata__` key of the weight version. */
export const WEIGHT_VERSION_KEY = "rlhf.weight_version";

/** `__metadata__` key of the digest over all tensors of the file. */
export const WEIGHTS_DIGEST_KEY = "rlhf.weights_digest";

/** A loaded checkpoint. */
export interface Checkpoint {
  /** Absolute path of the directory. */
  readonly dir: string;
  /** config.json as it stands. */
  readonly config: JsonObject;
  /** generation_config.json, when there is one. */
  readonly generationConfig: JsonObject | undefined;
  /**
   * Parameters by spec name, each on an ArrayBuffer of its own. Optional ones that the file lacks are absent.
   */
  readonly tensors: Map<string, Float32Array>;
  /** Version that {@link saveCheckpoint} wrote; 0 for a checkpoint that was not ours. */
  readonly weightVersion: number;
  /** {@link weightsDigest} of `tensors` under their spec names and shapes. */
  readonly digest: string;
  /** Names in the file that nothing asked for. */
  readonly unused: readonly string[];
}

/** Settings of {@link loadCheckpoint}. */
export interface LoadOptions {
  /**
   * Names of specs that may be absent, besides those marked optional: the name, or a prefix ending in a dot.
   */
  readonly optional?: readonly string[];
  /** Family prefix of the names; default by `model_type` of config.json. */
  readonly prefix?: string;
}

/** A weights file, of whatever format, open for reading. */
interface WeightsSource {
  readonly path: string;
  readonly shapes: ReadonlyMap<string, { readonly shape: readonly number[]; readonly dtype: string }>;
  readonly metadata: Readonly<Record<string, string>>;
  readFloat32(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/**
 * Loads the parameters that `specs` name from `dir` as float32: model.safetensors, its sharded index,
 * pytorch_model.bin, or its index, in this order of preference. F16, BF16 and F64 are converted.
 * Throws {@link CheckpointError} naming file, tensor, what was expected and what was found.
 */
export async function loadCheckpoint(
  dir: string,
  specs: readonly TensorSpec[] | ((config: JsonObject) => readonly TensorSpec[]),
  options: LoadOptions = {},
): Promise<Checkpoint> {
  const folder = resolve(dir);
  const config = await readConfig(folder);
  const generationConfig = await readJsonObject(join(folder, "generation_config.json"));
  const wanted = (typeof specs === "function" ? specs(config) : specs).map((spec) => ({
    ...spec,
    optional: spec.optional || isListed(spec.name, options.optional),
  }));
  const source = await openWeights(folder);
  try {
    const weightVersion = readVersion(source);
    const { sources, unused } = matchStateDict(source.shapes, wanted, {
      prefix: options.prefix ?? familyPrefix(config.model_type),
      file: source.path,
      tied: config.tie_word_embeddings !== false,
    });
    const { tensors, digest } = await readAll(source, sources, wanted);
    checkDigest(source, sources, digest);
    return { dir: folder, config, generationConfig, tensors, weightVersion, digest, unused };
  } finally {
    await source.close();
  }
}

/**
 * config.json of a model directory. Throws {@link CheckpointError} when directory or file are missing or
 * damaged.
 */
export async function readConfig(dir: string): Promise<JsonObject> {
  const folder = resolve(dir);
  await recoverDirectory(folder);
  const info = await stat(folder).catch(() => undefined);
  if (!info?.isDirectory()) {
    const found = info ? "a file" : "nothing";
    throw new CheckpointError({ file: folder, expected: "a model directory", found });
  }
  const file = join(folder, "config.json");
  const config = await readJsonObject(file);
  if (config === undefined)
    throw new CheckpointError({ file, expected: "a model's config", found: "no such file" });
  return config;
}

/** Reads every matched tensor, hashing one while the next is on its way from the disk. */
async function readAll(
  source: WeightsSource,
  sources: ReadonlyMap<string, string>,
  specs: readonly TensorSpec[],
): Promise<{ tensors: Map<string, Float32Array>; digest: string }> {
  const shapes = new Map(specs.map(({ name, shape }) => [name, shape]));
  const hasher = new WeightsHasher();
  const loaded = new Map<string, Float32Array>();
  const read = (name: string) => {
    const reading = source.readFloat32(sources.get(name)!);
    reading.catch(() => {}); // reported when its turn comes
    return reading;
  };
  const names = digestOrder(sources.keys());
  let coming = names.length > 0 ? read(names[0]!) : undefined;
  for (const [i, name] of names.entries()) {
    const data = await coming!;
    coming = i + 1 < names.length ? read(names[i + 1]!) : undefined;
    await hasher.add(name, { shape: shapes.get(name)!, data });
    loaded.set(name, data);
  }
  // in the order of the specs, which is the model's own
  const tensors = new Map<string, Float32Array>();
  for (const { name } of specs) if (loaded.has(name)) tensors.set(name, loaded.get(name)!);
  return { tensors, digest: hasher.hex() };
}

function readVersion(source: WeightsSource): number {
  const text = source.metadata[WEIGHT_VERSION_KEY];
  if (text === undefined) return 0;
  const version = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(version)) {
    const expected = `${WEIGHT_VERSION_KEY} to be a whole number`;
    throw new CheckpointError({ file: source.path, expected, found: JSON.stringify(text) });
  }
  return version;
}

/** A digest kept in the file can be compared when exactly the tensors it covers were read. */
function checkDigest(source: WeightsSource, sources: ReadonlyMap<string, string>, digest: string): void {
  const expected = source.metadata[WEIGHTS_DIGEST_KEY];
  if (expected === undefined || expected === digest || sources.size !== source.shapes.size) return;
  const exact = [...sources].every(
    ([name, stored]) => name === stored && source.shapes.get(stored)!.dtype === "F32",
  );
  if (!exact) return;
  throw new CheckpointError({ file: source.path, expected: `weights of digest ${expected}`, found: digest });
}

function isListed(name: string, list: readonly string[] = []): boolean {
  return list.some((entry) => entry === name || (entry.endsWith(".") && name.startsWith(entry)));
}

async function openWeights(folder: string): Promise<WeightsSource> {
  const has = (name: string) =>
    access(join(folder, name)).then(
      () => true,
      () => false,
    );
  if (await has("model.safetensors")) return openSafetensors(join(folder, "model.safetensors"));
  if (await has("model.safetensors.index.json")) {
    return openSharded(folder, "model.safetensors.index.json", openSafetensors);
  }
  if (await has("pytorch_model.bin")) return TorchFile.open(join(folder, "pytorch_model.bin"));
  if (await has("pytorch_model.bin.index.json")) {
    return openSharded(folder, "pytorch_model.bin.index.json", (path) => TorchFile.open(path));
  }
  throw new CheckpointError({
    file: folder,
    expected: "model.safetensors, model.safetensors.index.json, pytorch_model.bin or its index",
    found: "none of them",
  });
}

async function openSafetensors(path: string): Promise<WeightsSource> {
  const file = await SafetensorsFile.open(path);
  const { tensors, metadata } = file.header;
  return {
    path,
    shapes: tensors,
    metadata,
    readFloat32: (name) => file.readFloat32(tensors.get(name)!),
    close: () => file.close(),
  };
}

async function openSharded(
  folder: string,
  indexName: string,
  openShard: (path: string) => Promise<WeightsSource>,
): Promise<WeightsSource> {
  const path = join(folder, indexName);
  const weightMap = readWeightMap(path, await readJsonObject(path));
  const shards = new Map<string, WeightsSource>();
  const close = async () => {
    for (const shard of shards.values()) await shard.close();
  };
  try {
    for (const shard of [...new Set(weightMap.values())].sort()) {
      shards.set(shard, await openShard(join(folder, shard)));
    }
    const shapes = new Map<string, { shape: readonly number[]; dtype: string }>();
    for (const [name, shard] of weightMap) {
      const info = shards.get(shard)!.shapes.get(name);
      if (info === undefined) {
        const expected = `the tensor in this shard, as ${indexName} says`;
        throw new CheckpointError({
          file: join(folder, shard),
          tensor: name,
          expected,
          found: "no such tensor",
        });
      }
      shapes.set(name, info);
    }
    const metadata = Object.assign({}, ...[...shards.values()].map((shard) => shard.metadata));
    delete metadata[WEIGHTS_DIGEST_KEY];
    return {
      path,
      shapes,
      metadata,
      readFloat32: (name) => shards.get(weightMap.get(name)!)!.readFloat32(name),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function readWeightMap(path: string, index: JsonObject | undefined): Map<string, string> {
  const map = index?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map) || Object.keys(map).length === 0) {
    throw new CheckpointError({
      file: path,
      expected: "weight_map: tensor name to file name",
      found: typeof map,
    });
  }
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== "string" || !/^[^/\\\0]+$/.test(file) || file === ".." || file === ".") {
      const found = JSON.stringify(file).slice(0, 80);
      throw new CheckpointError({
        file: path,
        tensor,
        expected: "the name of a file in the same folder",
        found,
      });
    }
  }
  return new Map(Object.entries(map as Record<string, string>));
}
