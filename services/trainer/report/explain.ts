/** @file The token similarities of the row in which tuning gained most, asked of the run's BERTScore server. */
import { RpcError } from "../../../lib/rpc/index.js";
import type { ComparisonRow, VariantSummary } from "../evaluate/comparison.js";
import type { PpoRunConfig } from "../run-config.js";
import { judgesOf } from "../scoring/terms.js";
import type { RunServers } from "../servers/servers.js";
import { float32Of } from "../servers/tensors.js";
import { extremes } from "./differences.js";
import type { Explanation } from "./page.js";

/** Explains one pair. Where that can't be done, says why: it is one section of a report. */
export async function explainOne(
  config: PpoRunConfig,
  servers: RunServers,
  variants: readonly VariantSummary[],
  rows: readonly ComparisonRow[],
  signal: AbortSignal,
): Promise<Explanation> {
  const { addresses, layer } = config.servers.bertscore;
  const row = extremes(rows, 1).best[0];
  const variant = variants[1]?.name;
  const candidate = row?.responses[1]?.response;
  if (addresses.length === 0)
    return { missing: "The run has no BERTScore server (servers.bertscore), so no pair is explained." };
  if (!row || variant === undefined || !candidate) return { missing: "No row has a response to explain." };
  try {
    const reply = await servers
      .judges(judgesOf(config))
      .explain(
        { candidate, reference: row.answer, options: layer === undefined ? {} : { layer } },
        { signal },
      );
    const [own, other] = [reply.candidateTokens, reply.referenceTokens];
    return {
      variant,
      question: row.question,
      candidate,
      reference: row.answer,
      f1: reply.score?.f1 ?? Number.NaN,
      similarities: {
        candidate: own.map(({ text }) => text),
        reference: other.map(({ text }) => text),
        values: float32Of(reply.similarity, own.length * other.length, "similarity of bertscore"),
      },
    };
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    return { missing: `BERTScore could not explain the pair: ${error.message}` };
  }
}
