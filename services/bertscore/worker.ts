/**
 * @file The model worker of the BERTScore service: a child process of `main.ts` that holds tokenizer and encoder.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { serveWorker } from "../../lib/rpc/serve-worker.js";
import type {
  DecodeTokensCall,
  ScoreCall,
  TokenizeCall,
  TokenizedSentence,
  WorkerConfig,
} from "./protocol.js";
import { SentenceEncoder } from "./sentence-encoder.js";

/** How long tokenizing may keep other calls waiting, in milliseconds. */
const SLICE_MS = 20;

/** The worker's methods; the front process types its calls by them. */
export type BertScoreWorker = ReturnType<typeof methods>;

function methods(encoder: SentenceEncoder) {
  return {
    tokenize: async ({ sentences, addPrefixSpace }: TokenizeCall, { signal }: { signal: AbortSignal }) => {
      const tokens: TokenizedSentence[] = [];
      let turn = performance.now();
      for (const sentence of sentences) {
        tokens.push(encoder.tokenize(sentence, addPrefixSpace));
        if (performance.now() - turn < SLICE_MS) continue;
        await nextTurn();
        if (signal.aborted) break; // nobody reads the rest
        turn = performance.now();
      }
      return tokens;
    },
    score: ({ items }: ScoreCall, { signal }: { signal: AbortSignal }) => encoder.score(items, signal),
    decodeTokens: ({ ids }: DecodeTokensCall) => encoder.decodeTokens(ids),
  };
}

serveWorker({
  init: async (config: WorkerConfig) => {
    const encoder = await SentenceEncoder.load(config);
    return { methods: methods(encoder), info: encoder.facts };
  },
});
