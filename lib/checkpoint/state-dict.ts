/**
 * @file Which tensor of a file is which parameter of a model: prefixes, legacy names, buffers and heads to
 * pass over.
 * Follows `from_pretrained` of transformers, but a missing parameter is an error there is no guessing around.
 */
import { CheckpointError } from "./errors.js";

/** A parameter that a model wants. */
export interface TensorSpec {
  /**
   * Name as in a Hugging Face checkpoint of the task model, with the family's prefix
   * (`transformer.wte.weight`).
   */
  readonly name: string;
  readonly shape: readonly number[];
  /** May be absent: it is then left out of the result. Default false. */
  readonly optional?: boolean;
}

/** Prefix that task models of each family put before the base model's names. */
const FAMILY_PREFIX: Readonly<Record<string, string>> = {
  gpt2: "transformer",
  bert: "bert",
  roberta: "roberta",
  distilbert: "distilbert",
};

/** The family prefix for a `model_type`, without the dot; undefined for a family we do not know. */
export function familyPrefix(modelType: unknown): string | undefined {
  return typeof modelType === "string" && Object.hasOwn(FAMILY_PREFIX, modelType)
    ? FAMILY_PREFIX[modelType]
    : undefined;
}

/** Names that carry no parameter of ours: attention masks kept as buffers, and heads of other tasks. */
const IGNORABLE =
  /(^|\.)(attn\.bias|attn\.masked_bias|embeddings\.position_ids)$|^(cls|score|qa_outputs|multiple_choice_head|vocab_transform|vocab_layer_norm|vocab_projector|lm_head|v_head|classifier|pre_classifier)\.|\.(crossattention|ln_cross_attn)\.|(^|\.)pooler\./;

/** How the tensors of a file answer to a model's specs. */
export interface Matching {
  /** Spec name to the file's own name. Optional parameters that the file lacks are left out. */
  readonly sources: Map<string, string>;
  /** Names in the file that nothing asked for and that are no known buffer or head. */
  readonly unused: string[];
}

/** What the matching needs to know of a stored tensor. */
export interface StoredShape {
  readonly shape: readonly number[];
}

/**
 * Finds each spec's tensor among the stored ones. `prefix` is the family's ({@link familyPrefix}), `file`
 * names the
 * checkpoint in errors. Throws {@link CheckpointError} for the first missing parameter or wrong shape.
 */
export function matchStateDict(
  stored: ReadonlyMap<string, StoredShape>,
  specs: readonly TensorSpec[],
  { prefix, file, tied }: { prefix: string | undefined; file: string; tied: boolean },
): Matching {
  const names = modernNames(stored.keys(), file);
  const dotted = prefix === undefined ? undefined : `${prefix}.`;
  const prefixed = dotted !== undefined && [...names.keys()].some((name) => name.startsWith(dotted));
  const sources = new Map<string, string>();
  const missing: TensorSpec[] = [];
  for (const spec of specs) {
    let source = candidates(spec.name, dotted, prefixed)
      .map((name) => names.get(name))
      .find((name) => name !== undefined);
    // the output layer of a tied model is its embedding, and is not stored twice
    if (source === undefined && spec.name === "lm_head.weight" && tied) {
      source = candidates(`${dotted ?? ""}wte.weight`, dotted, prefixed)
        .map((name) => names.get(name))
        .find((name) => name !== undefined);
    }
    if (source === undefined) {
      if (!spec.optional) missing.push(spec);
      continue;
    }
    const { shape } = stored.get(source)!;
    if (shape.length !== spec.shape.length || shape.some((size, axis) => size !== spec.shape[axis])) {
      const expected = `shape [${spec.shape}]`;
      throw new CheckpointError({ file, tensor: source, expected, found: `[${shape}]` });
    }
    sources.set(spec.name, source);
  }
  if (missing.length > 0) {
    const others = missing.length > 1 ? ` (and ${missing.length - 1} more are missing)` : "";
    throw new CheckpointError({
      file,
      tensor: missing[0]!.name,
      expected: `a tensor of shape [${missing[0]!.shape}]`,
      found: `no tensor of that name among ${stored.size}${others}`,
    });
  }
  const taken = new Set(sources.values());
  const unused = [...names]
    .filter(([name, source]) => !taken.has(source) && !IGNORABLE.test(name))
    .map(([, source]) => source);
  return { sources, unused };
}

/** Modern name to stored name: old conversions call LayerNorm's weight `gamma` and its bias `beta`. */
function modernNames(stored: Iterable<string>, file: string): Map<string, string> {
  const names = new Map<string, string>();
  for (const name of stored) {
    const modern = name.replace(/(LayerNorm)\.gamma$/, "$1.weight").replace(/(LayerNorm)\.beta$/, "$1.bias");
    const rival = names.get(modern);
    if (rival !== undefined) {
      throw new CheckpointError({
        file,
        tensor: modern,
        expected: "one tensor",
        found: `both ${rival} and ${name}`,
      });
    }
    names.set(modern, name);
  }
  return names;
}

/** Names under which a file may hold a parameter, most likely first. */
function candidates(name: string, dotted: string | undefined, prefixed: boolean): string[] {
  if (dotted === undefined) return [name];
  if (name.startsWith(dotted)) return prefixed ? [name] : [name.slice(dotted.length)];
  return prefixed ? [name, dotted + name] : [name];
}
