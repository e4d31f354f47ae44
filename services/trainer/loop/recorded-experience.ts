/**
 * @file What a step learned from each sample, token by token, for the record of a batch: the dashboard colours tokens by it.
 */
import { z } from "zod";
import { tokenBytes } from "../../../lib/tokenizer/byte-level.js";
import type { Tokenizer } from "../../../lib/tokenizer/index.js";
import type { Advantages } from "../ppo/advantages.js";
import type { Experience } from "../ppo/experience.js";
import type { ScoredSample } from "./rollout-stage.js";
import { floats } from "./scored-batch.js";

const experienceSchema = z.array(
  z
    .object({
      /** Text of each token that is trained on, [G]. */
      tokens: z.array(z.string()),
      /** Per token, [G] each. */
      advantages: floats,
      returns: floats,
      values: floats,
      rewards: floats,
      kl: floats,
    })
    .nullable(),
);

/** One entry per sample of the batch; null for those that could not be learned from. */
export type StoredExperience = z.input<typeof experienceSchema>;

/** The experience of a batch as plain JSON. `learned` are the samples that `experience` is about, in its order. */
export function encodeExperience(
  samples: readonly ScoredSample[],
  learned: readonly ScoredSample[],
  experience: Experience & Advantages,
  pieces: (ids: readonly number[]) => string[],
): StoredExperience {
  const places = new Map(learned.map((sample, place) => [sample, place]));
  return z.encode(
    experienceSchema,
    samples.map((sample) => {
      const place = places.get(sample);
      if (place === undefined) return null;
      const of = (rows: readonly Float32Array[]) => Float32Array.from(rows[place] as Float32Array);
      return {
        tokens: pieces(sample.response),
        advantages: of(experience.advantages),
        returns: of(experience.returns),
        values: of(experience.values),
        rewards: of(experience.rewards),
        kl: of(experience.kl),
      };
    }),
  );
}

/**
 * The text that each token of a byte-level vocabulary adds. A character of several tokens stands with the one that completes it;
 * a special token is spelled out.
 */
export function tokenPieces(
  tokenizer: Pick<Tokenizer, "idToToken" | "isSpecial">,
  ids: readonly number[],
): string[] {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return ids.map((id) => {
    const token = tokenizer.idToToken(id) ?? "";
    if (tokenizer.isSpecial(id)) return token;
    const bytes = tokenBytes(token);
    return decoder.decode(bytes ? Uint8Array.from(bytes) : Buffer.from(token, "utf8"), { stream: true });
  });
}
