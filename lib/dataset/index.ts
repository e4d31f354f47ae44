/**
 * @file Data files into rows and prompts, and the random numbers that order them.
 */
export { DatasetError } from "./errors.js";
export {
  type DatasetCursor,
  fillTemplate,
  type PromptBatch,
  PromptDataset,
  type PromptDatasetOptions,
  type PromptRow,
  templateColumns,
} from "./prompt-dataset.js";
export { PythonRandom, type PythonRandomState, Rng, type RngState, type StreamKey } from "./rng.js";
export { type ColumnType, type RowOf, type RowSchema, readRows } from "./rows.js";
export { type Cell, readTable, type Table } from "./table.js";
