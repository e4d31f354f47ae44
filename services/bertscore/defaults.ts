/**
 * @file What a BERTScore server does when a request says nothing: which layer, which baseline. Flags win; else the tables
 * published with bert_score, by the model's name; else the last layer and no rescaling.
 */
import { readFileSync } from "node:fs";
import { type BaselineTable, parseBaseline, publishedBaseline } from "./baselines.js";
import { BaselineError, InvalidLayerError } from "./errors.js";
import { defaultLayer } from "./layers.js";
import type { EncoderFacts } from "./protocol.js";
import type { BertScoreDefaults } from "./service.js";

/** The flags that decide. */
export interface DefaultFlags {
  name?: string;
  layer?: number;
  /** Path of a baseline file. */
  rescaleBaseline?: string;
  /** Language of the published baseline. */
  lang: string;
}

/** Resolves the flags for a model. Throws InvalidLayerError or BaselineError where they do not fit it. */
export function resolveDefaults(flags: DefaultFlags, facts: EncoderFacts): BertScoreDefaults {
  const name = flags.name ?? facts.name;
  const tabled = defaultLayer(name);
  const layer =
    flags.layer ?? (tabled !== undefined && tabled <= facts.layerCount ? tabled : facts.layerCount);
  if (layer > facts.layerCount) throw new InvalidLayerError(layer, facts.layerCount);
  return { name, layer, baseline: baselineOf(flags, name, facts) };
}

function baselineOf(
  { rescaleBaseline: file, lang }: DefaultFlags,
  name: string,
  { layerCount }: EncoderFacts,
): BertScoreDefaults["baseline"] {
  if (file !== undefined) {
    const table = readBaseline(file);
    if (table.length !== layerCount + 1) {
      throw new BaselineError(
        `${file}: expected ${layerCount + 1} rows, one for each layer from 0 to ${layerCount}, got ${table.length}`,
      );
    }
    return { table, origin: "custom" };
  }
  const table = publishedBaseline(lang, name);
  // another model may go by the name of a published one
  return table?.length === layerCount + 1 ? { table, origin: "published" } : undefined;
}

function readBaseline(file: string): BaselineTable {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw new BaselineError(`${file}: cannot be read: ${(cause as Error).message}`, { cause });
  }
  return parseBaseline(text, file);
}
