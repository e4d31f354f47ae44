/**
 * @file Whether a checkpoint's tokenizer tells the two texts of a pair apart by segment ids. BERT's own tokenizer class
 * does; transformers' generic `TokenizersBackend` gives ids and mask only, so its models see segment 0 throughout.
 */
import { join } from "node:path";
import { readJsonObject } from "../../lib/checkpoint/index.js";

/** Reads `tokenizer_config.json` of a model directory: `model_input_names` decides, else the tokenizer's class. */
export async function usesSegments(model: string): Promise<boolean> {
  const config = await readJsonObject(join(model, "tokenizer_config.json"));
  const names = config?.model_input_names;
  if (Array.isArray(names)) return names.includes("token_type_ids");
  return config?.tokenizer_class !== "TokenizersBackend";
}
