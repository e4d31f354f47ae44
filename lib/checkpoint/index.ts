/**
 * @file Checkpoints in and out: safetensors files and Hugging Face model directories.
 */
export { BREATH_BYTES, Breather } from "./breather.js";
export { digestOrder, WeightsHasher, weightsDigest } from "./digest.js";
export { CheckpointError, CheckpointWriteError } from "./errors.js";
export { type JsonObject, readJsonObject } from "./json-file.js";
export { type Checkpoint, type LoadOptions, loadCheckpoint, readConfig } from "./load.js";
export { replaceDirectory } from "./replace-directory.js";
export { type HostTensor, readSafetensors, SafetensorsFile, writeSafetensors } from "./safetensors.js";
export { encodeHeader, type TensorInfo } from "./safetensors-header.js";
export { type CheckpointContent, saveCheckpoint, TOKENIZER_FILES } from "./save.js";
export type { TensorSpec } from "./state-dict.js";
