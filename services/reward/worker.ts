/**
 * @file The model worker of the reward service: a child process of `main.ts` that holds tokenizer and classifier.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { serveWorker } from "../../lib/rpc/serve-worker.js";
import { Classifier } from "./classifier.js";
import type { LogitsCall, TokenizeCall, TokenizedText, WorkerConfig } from "./protocol.js";

/** How long tokenizing may keep other calls waiting, in milliseconds. */
const SLICE_MS = 20;

/** The worker's methods; the front process types its calls by them. */
export type RewardWorker = ReturnType<typeof methods>;

function methods(classifier: Classifier) {
  return {
    tokenize: async ({ texts, truncate }: TokenizeCall, { signal }: { signal: AbortSignal }) => {
      const rows: TokenizedText[] = [];
      let turn = performance.now();
      for (const text of texts) {
        rows.push(classifier.tokenize(text, truncate));
        if (performance.now() - turn < SLICE_MS) continue;
        await nextTurn();
        if (signal.aborted) break; // nobody reads the rest
        turn = performance.now();
      }
      return rows;
    },
    logits: ({ rows }: LogitsCall): Promise<Float32Array[]> => classifier.logits(rows),
  };
}

serveWorker({
  init: async (config: WorkerConfig) => {
    const classifier = await Classifier.load(config);
    return { methods: methods(classifier), info: classifier.facts };
  },
});
