/** @file Mistakes of a policy server, by the check that must catch them. */
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import {
  FinishReason,
  GenerateResponseSchema,
  type Sequence,
} from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { randomFrom } from "../toy/hash.js";
import {
  type Continuation,
  decode,
  logitsAfter,
  logSoftmax,
  type Rules,
  VOCAB,
} from "../toy/language-model.js";
import { entropy, type PolicyToy, type Start } from "../toy/policy.js";
import { Refusal } from "../toy/refusal.js";
import { floats } from "../toy/tensors.js";
import { commonMutants, firstOfEach } from "./common.js";
import { asUnknown, otherStatus, renamed, unchecked } from "./fields.js";
import { after, type Mutants, mutation } from "./mutation.js";

/** Changes the sequences of Generate. */
function sequences(toy: PolicyToy, change: (all: Sequence[]) => void): void {
  after(toy.methods, "generate", (reply) => {
    change(reply.sequences);
    return reply;
  });
}

/** Changes how requests are read. */
function rules(toy: PolicyToy, change: (rules: Rules) => Partial<Rules>): void {
  const right = toy.rules;
  toy.rules = (request) => {
    const asked = right(request);
    return { ...asked, ...change(asked) };
  };
}

/** Changes how a sequence is continued. */
function continued(
  toy: PolicyToy,
  change: (right: PolicyToy["continue"], start: Start, rules: Rules) => Continuation,
): void {
  const right = toy.continue;
  toy.continue = (start, asked) => change(right, start, asked);
}

/** Changes the scores of LogProbs. */
function scored(toy: PolicyToy, change: (right: PolicyToy["score"]) => PolicyToy["score"]): void {
  toy.score = change(toy.score);
}

const accepted = (what: string) => new RegExp(`${what}: it was accepted`);
const cut = ({ ids, logprobs, ended }: Continuation, length: number): Continuation => ({
  ids: ids.slice(0, length),
  logprobs: logprobs.slice(0, length),
  ended,
});

/** Mistakes of a policy server. */
export const policyMutants: Mutants<PolicyToy> = {
  ...firstOfEach(
    commonMutants<PolicyToy>({
      typeName: "rlhf.policy.v1.PolicyService",
      file: "rlhf/policy/v1/policy.proto",
      itemsLimit: "max_prompts",
    }),
  ),
  "info/vocabulary": [
    mutation("the size of the vocabulary is not given", /vocab_size is 0/, (toy) => {
      after(toy.methods, "getInfo", (reply) => {
        reply.model!.vocabSize = 0;
        return reply;
      });
    }),
    mutation("the longest sequence is not given", /max_tokens is 0/, (toy) => {
      after(toy.methods, "getInfo", (reply) => {
        reply.model!.maxTokens = 0;
        return reply;
      });
    }),
    mutation(
      "the end of sequence is that of another vocabulary",
      /eos_token_ids has an id above 96/,
      (toy) => {
        after(toy.methods, "getInfo", (reply) => ({ ...reply, eosTokenIds: [50256] }));
      },
    ),
    mutation(
      "the default of max_new_tokens is not told",
      /default_options\.max_new_tokens is not set/,
      (toy) => {
        after(toy.methods, "getInfo", (reply) => ({ ...reply, defaultOptions: undefined }));
      },
    ),
  ],
  "generate/batch": [
    mutation(
      "sequences come as they end",
      /sequences\[\d\] is return \d of prompt \d; expected return/,
      (toy) => sequences(toy, (all) => void all.reverse()),
    ),
    mutation("log-probabilities are not given", /sequences\[0\]\.logprobs is not set/, (toy) =>
      sequences(toy, (all) => {
        for (const each of all) each.logprobs = undefined;
      }),
    ),
    mutation("the end is not told", /sequences\[0\]\.finish_reason is not set/, (toy) =>
      sequences(toy, (all) => {
        for (const each of all) each.finishReason = FinishReason.UNSPECIFIED;
      }),
    ),
    mutation(
      "only one sequence of a prompt comes back",
      /4 prompts with 2 sequences each gave 4 sequences/,
      (toy) => {
        after(toy.methods, "generate", (reply) => ({
          ...reply,
          sequences: reply.sequences.filter(({ returnIndex }) => returnIndex === 0),
        }));
      },
    ),
    mutation(
      "log-probabilities are in the wrong byte order",
      /logprobs has a value above 0 or not finite/,
      (toy) =>
        sequences(toy, (all) => {
          for (const { logprobs } of all) Buffer.from(logprobs!.data.buffer).swap32();
        }),
    ),
  ],
  "generate/version": [
    mutation("Generate does not name its weights", /Generate: weights is not set/, (toy) => {
      after(toy.methods, "generate", (reply) => ({ ...reply, weights: undefined }));
    }),
    mutation("LogProbs does not name its weights", /LogProbs: weights is not set/, (toy) => {
      after(toy.methods, "logProbs", (reply) => ({ ...reply, weights: undefined }));
    }),
    mutation(
      "the digest is of weights that served before",
      /Generate: weights is version 0 ffff.*, GetInfo says 0 0123/,
      (toy) => {
        after(toy.methods, "generate", (reply) => {
          reply.weights!.digest = "f".repeat(64);
          return reply;
        });
      },
    ),
  ],
  "generate/tokens": [
    mutation(
      "ids are put through the tokenizer again",
      /prompt_tokens and the ids that were sent differ/,
      (toy) => {
        toy.read = (ids) => toy.encode(`${decode(ids)} `);
      },
    ),
    mutation(
      "a prompt of ids gets a token in front that is not told",
      /ids after a prompt of text and of its ids differ/,
      (toy) => {
        const { read } = toy;
        const fromIds = new WeakSet<readonly number[]>();
        toy.read = (ids) => {
          const prompt = read(ids);
          fromIds.add(prompt);
          return prompt;
        };
        continued(toy, (right, start, asked) =>
          right(fromIds.has(start.prompt) ? { ...start, prompt: [0, ...start.prompt] } : start, asked),
        );
      },
    ),
  ],
  "generate/greedy": [
    mutation(
      "prompts are padded on the left and positions are not",
      /prompts\[\d\] alone and in a batch differ/,
      (toy) => {
        continued(toy, (right, start, asked) => {
          const padding = Array(start.longest - start.prompt.length).fill(0);
          return right({ ...start, prompt: [...padding, ...start.prompt] }, asked);
        });
      },
    ),
  ],
  "generate/seed": [
    mutation(
      "the seed is not used, random numbers come from the clock",
      /twice with seed 7 differ/,
      (toy) => {
        toy.random = () => Math.random;
      },
    ),
    mutation("the seed is fixed", /five seeds gave the same sequences/, (toy) => {
      toy.random = ({ promptIndex, returnIndex }) => randomFrom(42, promptIndex, returnIndex);
    }),
  ],
  "generate/own-seed": [
    mutation(
      "the stream of a prompt depends on its place",
      /prompts\[\d\] (alone and in a batch|at another place in the batch) differ/,
      (toy) => {
        toy.random = ({ seed, promptIndex }) => randomFrom(Number(seed), promptIndex);
      },
    ),
    mutation(
      "all prompts draw from one generator",
      /prompts\[\d\] (alone and in a batch|at another place)/,
      (toy) => {
        let next = () => 0;
        toy.random = ({ seed, promptIndex }) => {
          if (promptIndex === 0) next = randomFrom(Number(seed));
          return next;
        };
      },
    ),
    mutation(
      "the prompt's own seed is not looked at",
      /prompts\[0\] has seed 100, its sequence says/,
      (toy) => {
        const { generate } = toy.methods;
        toy.methods.generate = (request, call) => {
          const prompts = request.prompts.map((prompt) => ({ ...prompt, seed: undefined }));
          return generate({ ...request, prompts }, call);
        };
      },
    ),
    mutation(
      "the prompt's own seed is told and not used",
      /five seeds of the prompts' own gave the same/,
      (toy) => {
        toy.random = ({ returnIndex }) => randomFrom(42, returnIndex);
      },
    ),
  ],
  "generate/returned-seed": [
    mutation("the seed that was drawn is not told", /the sequence again with its seed 0 differ/, (toy) => {
      after(toy.methods, "generate", (reply, request) => {
        if (request.seed === undefined) for (const each of reply.sequences) each.seed = 0n;
        return reply;
      });
    }),
    mutation(
      "a request without a seed always draws the same",
      /two requests without a seed both drew 1/,
      (toy) => {
        const { generate } = toy.methods;
        toy.methods.generate = (request, call) => generate({ ...request, seed: request.seed ?? 1n }, call);
      },
    ),
  ],
  "generate/length": [
    mutation(
      "the end of sequence counts though it is ignored",
      /ignore_eos: sequences\[\d\] has \d+ of 64 ids and ends by EOS/,
      (toy) => rules(toy, ({ eos }) => ({ eos: eos.length > 0 ? eos : [0] })),
    ),
    mutation("max_new_tokens counts one token less", /ignore_eos: sequences\[0\] has 63 of 64 ids/, (toy) =>
      rules(toy, ({ maxNewTokens }) => ({ maxNewTokens: Math.max(1, maxNewTokens - 1) })),
    ),
    mutation("min_new_tokens is not looked at", /min_new_tokens 6 gave \d ids/, (toy) =>
      rules(toy, () => ({ minNewTokens: 0 })),
    ),
  ],
  "generate/eos": [
    mutation("eos_token_ids of a request are not looked at", /expected EOS, got LENGTH/, (toy) =>
      rules(toy, ({ eos }) => ({ eos: eos.filter((id) => id === 0) })),
    ),
    mutation("the end of sequence is cut off", /but is not its last alone/, (toy) =>
      continued(toy, (right, start, asked) => {
        const end = right(start, asked);
        return end.ended === "eos" ? cut(end, end.ids.length - 1) : end;
      }),
    ),
    mutation("an end by a token is called LENGTH", /expected EOS, got LENGTH/, (toy) =>
      continued(toy, (right, start, asked) => ({ ...right(start, asked), ended: "length" })),
    ),
  ],
  "generate/stop-string": [
    mutation("stop strings are not looked at", /expected STOP, got LENGTH/, (toy) =>
      rules(toy, () => ({ stopStrings: [] })),
    ),
    mutation("the stop string is cut off", /lost its stop string/, (toy) =>
      sequences(toy, (all) => {
        for (const each of all) {
          if (each.finishReason === FinishReason.STOP) each.text = each.text.slice(0, -3);
        }
      }),
    ),
    mutation(
      "stop strings are cut out of the whole continuation afterwards",
      /the stop string stopped nothing/,
      (toy) =>
        continued(toy, (right, start, asked) => {
          const end = right(start, { ...asked, stopStrings: [] });
          return asked.stopStrings.length > 0 ? { ...end, ended: "stop" } : end;
        }),
    ),
  ],
  "generate/suppress": [
    mutation("suppressed ids are not looked at", /suppressed ids [\d, ]+ were generated/, (toy) =>
      rules(toy, () => ({ suppress: [] })),
    ),
  ],
  "generate/filters": [
    mutation("top_k is not looked at", /sampled ids with top_k 1, and greedy ones differ/, (toy) =>
      rules(toy, () => ({ topK: 0 })),
    ),
    mutation("top_p is not looked at", /sampled ids with top_p 1e-9, and greedy ones differ/, (toy) =>
      rules(toy, () => ({ topP: 1 })),
    ),
    mutation("min_p is not looked at", /sampled ids with min_p 1, and greedy ones differ/, (toy) =>
      rules(toy, () => ({ minP: 0 })),
    ),
    mutation(
      "temperature is not looked at",
      /sampled ids with temperature 1e-4, and greedy ones differ/,
      (toy) => rules(toy, () => ({ temperature: 1 })),
    ),
  ],
  "generate/repetition": [
    mutation(
      "no_repeat_ngram_size is not looked at",
      /no_repeat_ngram_size 2: \d+ \d+ occurs twice/,
      (toy) => {
        rules(toy, () => ({ noRepeatNgramSize: 0 }));
        loops(toy);
      },
    ),
    mutation("repetition_penalty is not looked at", /repetition_penalty 1e6 changed nothing/, (toy) =>
      rules(toy, () => ({ repetitionPenalty: 1 })),
    ),
  ],
  "generate/logprobs": [
    mutation(
      "log-probabilities are those after temperature",
      /token \d+: sampler and LogProbs: .* differ/,
      (toy) =>
        continued(toy, (right, start, asked) => {
          const end = right(start, asked);
          const logprobs = end.ids.map((id, t) => {
            const logits = logitsAfter([...start.prompt, ...end.ids.slice(0, t)]);
            return logSoftmax(logits.map((logit) => logit / asked.temperature))[id] as number;
          });
          return { ...end, logprobs };
        }),
    ),
    mutation("log-probabilities are off by one", /token \d+: sampler and LogProbs: .* differ/, (toy) =>
      continued(toy, (right, start, asked) => {
        const end = right(start, asked);
        return { ...end, logprobs: [...end.logprobs.slice(1), -1] };
      }),
    ),
  ],
  "stream/same": [
    mutation(
      "the stream draws from another stream of random numbers",
      /ids of the stream and of Generate differ/,
      (toy) => {
        const { generateStream } = toy.methods;
        toy.methods.generateStream = ({ request }, call) =>
          generateStream({ request: { ...request!, seed: (request!.seed ?? 0n) + 1n } } as never, call);
      },
    ),
    mutation("the whole sequence is not sent", /prompt 0: the stream ended without its sequence/, (toy) => {
      const { generateStream } = toy.methods;
      toy.methods.generateStream = async function* (request, call) {
        for await (const event of generateStream(request, call))
          if (event.event.case === "token") yield event;
      };
    }),
    mutation("the first token is lost", /ids of the token events and of the sequence differ/, (toy) => {
      const { generateStream } = toy.methods;
      toy.methods.generateStream = async function* (request, call) {
        const seen = new Set<number>();
        for await (const event of generateStream(request, call)) {
          if (event.event.case === "token" && !seen.has(event.event.value.promptIndex)) {
            seen.add(event.event.value.promptIndex);
            continue;
          }
          yield event;
        }
      };
    }),
    mutation("events do not name their weights", /an event's weights is not set/, (toy) => {
      const { generateStream } = toy.methods;
      toy.methods.generateStream = async function* (request, call) {
        for await (const event of generateStream(request, call)) yield { ...event, weights: undefined };
      };
    }),
    mutation(
      "the texts of tokens are cleaned up one by one",
      /the texts of the token events do not make/,
      (toy) => {
        const { generateStream } = toy.methods;
        toy.methods.generateStream = async function* (request, call) {
          for await (const event of generateStream(request, call)) {
            if (event.event.case === "token") event.event.value.text = event.event.value.text.toLowerCase();
            yield event;
          }
        };
      },
    ),
  ],
  "stream/early": [
    mutation(
      "the stream is Generate's reply in pieces",
      /the first token came after at least \d+ % of the time/,
      (toy) => {
        const { generateStream } = toy.methods;
        toy.methods.generateStream = async function* (request, call) {
          const events = [];
          for await (const event of generateStream(request, call)) events.push(event);
          yield* events;
        };
      },
    ),
  ],
  "deadline/stream": [
    mutation("streams have no deadline", /after a deadline of \d+ ms came status 0/, (toy) => {
      toy.habits.incoming = (headers) => {
        if (String(headers[":path"]).endsWith("/GenerateStream")) delete headers["grpc-timeout"];
      };
    }),
  ],
  "cancel/stream": [
    mutation(
      "a stream that was left is generated to its end",
      /took \d+ ms after \d+ streams of \d+ ms were left/,
      (toy) => {
        const { run } = toy.queue;
        toy.queue.run = (items, ms, signal, steps, onStep) =>
          run.call(
            toy.queue,
            items,
            ms,
            steps === undefined ? signal : new AbortController().signal,
            steps,
            onStep,
          );
      },
    ),
  ],
  "cancel/running": [
    mutation("only what waits is given up, not what runs", /took at least \d+ ms longer each time/, (toy) => {
      toy.queue.givesUp = false;
    }),
  ],
  "logprobs/order": [
    mutation("results are sorted by length", /has shape \[\d+\], not \[\d+\]/, (toy) => {
      after(toy.methods, "logProbs", (reply) => {
        reply.results.sort((a, b) => Number(a.logprobs!.shape[0]! - b.logprobs!.shape[0]!));
        return reply;
      });
    }),
    mutation("padding is not masked", /token \d+ alone and in a batch: .* differ/, (toy) =>
      scored(toy, (right) => (ids, batch) => {
        const padding = Math.max(...batch.map(({ length }) => length)) - ids.length;
        return right(ids, batch).map((row) => row.map((logprob) => logprob - padding / 1000));
      }),
    ),
  ],
  "logprobs/start": [
    mutation("start counts from 1", /logprobs with start 3 has shape/, (toy) => {
      const { logProbs } = toy.methods;
      toy.methods.logProbs = (request, call) => {
        const sequences = request.sequences.map((each) => ({
          ...each,
          start: each.start && each.start - 1,
        }));
        return logProbs({ ...request, sequences }, call);
      };
    }),
    mutation("start is not looked at", /logprobs with start 3 has shape/, (toy) => {
      const { logProbs } = toy.methods;
      toy.methods.logProbs = (request, call) => {
        const sequences = request.sequences.map((each) => ({ ...each, start: undefined }));
        return logProbs({ ...request, sequences }, call);
      };
    }),
  ],
  "logprobs/distribution": [
    mutation("the distribution is logits", /sum of the distribution at position \d+: .* differ/, (toy) =>
      after(toy.methods, "logProbs", (reply, request) => {
        for (const [i, result] of reply.results.entries()) {
          const ids = request.sequences[i]!.tokens!.ids;
          const rows = ids.slice(1).map((_, t) => logitsAfter(ids.slice(0, t + 1)));
          if (result.distribution) result.distribution.data = floats(rows.flat()).data;
        }
        return reply;
      }),
    ),
    mutation("entropy is in bits", /entropy at position \d+ and of the distribution: .* differ/, (toy) =>
      after(toy.methods, "logProbs", (reply, request) => {
        for (const [i, result] of reply.results.entries()) {
          const rows = toy.score(request.sequences[i]!.tokens!.ids, []);
          if (result.entropy) result.entropy.data = floats(rows.map((row) => entropy(row) / Math.LN2)).data;
        }
        return reply;
      }),
    ),
    mutation("full_distribution is not looked at", /distribution is not set/, (toy) =>
      after(toy.methods, "logProbs", (reply) => {
        for (const result of reply.results) result.distribution = undefined;
        return reply;
      }),
    ),
  ],
  "version/minimum": [
    mutation(
      "min_weight_version is not looked at",
      /Generate with minWeightVersion \d+: it was accepted/,
      (toy) => {
        const { generate } = toy.methods;
        toy.methods.generate = (request, call) => generate({ ...request, minWeightVersion: undefined }, call);
      },
    ),
    mutation(
      "LogProbs does not look at versions",
      /LogProbs with minWeightVersion \d+: it was accepted/,
      (toy) => {
        const { logProbs } = toy.methods;
        toy.methods.logProbs = (request, call) =>
          logProbs({ ...request, minWeightVersion: undefined, weightVersion: undefined }, call);
      },
    ),
    mutation(
      "a version that is not held is NOT_FOUND",
      /expected FAILED_PRECONDITION, got NOT_FOUND/,
      otherStatus(status.FAILED_PRECONDITION, status.NOT_FOUND),
    ),
  ],
  "errors/empty": [
    mutation("no prompts give no sequences", accepted("empty"), (toy) => {
      const { generate } = toy.methods;
      toy.methods.generate = async (request, call) =>
        request.prompts.length === 0 ? create(GenerateResponseSchema) : generate(request, call);
    }),
    mutation("a wrong field is UNKNOWN", /empty: expected INVALID_ARGUMENT, got UNKNOWN/, asUnknown),
  ],
  "errors/no-input": [
    mutation(
      "a prompt of nothing is an internal error",
      /no-input: expected INVALID_ARGUMENT, got INTERNAL/,
      unchecked(/^prompts\[0\]$/),
    ),
  ],
  "errors/token-id": [
    mutation("an unknown id is read as padding", accepted("token-id"), (toy) => {
      unchecked(/ids\[\d+\]$/)(toy);
      toy.read = (ids) => ids.map((id) => (id < VOCAB ? id : 0));
    }),
    mutation(
      "the place of the id is not told",
      /expected a violation of prompts\[0\]\.tokens\.ids\[1\], got prompts\[0\]\.tokens/,
      renamed(/ids\[\d+\]$/, "prompts[0].tokens"),
    ),
  ],
  "errors/too-long": [
    mutation("a long prompt is cut silently", accepted("too-long"), unchecked(/^prompts\[0\]$/)),
  ],
  "errors/temperature": [
    mutation("temperature 0 means greedy", accepted("temperature"), unchecked(/temperature$/)),
  ],
  "errors/top-p": [mutation("top_p above 1 means 1", accepted("top-p"), unchecked(/top_p$/))],
  "errors/top-k": [mutation("top_k -1 means all", accepted("top-k"), unchecked(/top_k$/))],
  "errors/penalty": [
    mutation("repetition_penalty 0 divides by 0", accepted("penalty"), unchecked(/repetition_penalty$/)),
  ],
  "errors/new-tokens": [
    mutation("max_new_tokens 0 means the default", accepted("new-tokens"), (toy) => {
      unchecked(/max_new_tokens$/)(toy);
      rules(toy, ({ maxNewTokens }) => ({ maxNewTokens: maxNewTokens || 20 }));
    }),
  ],
  "errors/sequences": [
    mutation(
      "several greedy sequences are all the same",
      accepted("sequences"),
      unchecked(/num_return_sequences$/),
    ),
  ],
  "errors/logprobs-empty": [
    mutation("no sequences give no results", accepted("logprobs-empty"), unchecked(/^sequences$/)),
  ],
  "errors/logprobs-short": [
    mutation("a sequence of one id has no log-probabilities", accepted("logprobs-short"), unchecked(/ids$/)),
  ],
  "errors/logprobs-start": [
    mutation("a start beyond the end gives nothing", accepted("logprobs-start"), unchecked(/start$/)),
  ],
  "errors/logprobs-token-id": [
    mutation("an unknown id has no log-probability", accepted("logprobs-token-id"), unchecked(/ids\[\d+\]$/)),
  ],
  "errors/stream": [
    mutation("streams are not checked", /a stream with top_p 1\.5: it was accepted/, unchecked(/^request\./)),
    mutation(
      "the path leaves out the request around it",
      /expected a violation of request\.options\.top_p, got options\.top_p/,
      renamed(/^request\.options\.top_p$/, "options.top_p"),
    ),
    mutation("the refusal comes after the first event", /\d+ events came before the refusal/, (toy) => {
      const { generateStream } = toy.methods;
      toy.methods.generateStream = async function* (request, call) {
        yield { $typeName: "rlhf.policy.v1.GenerateStreamResponse", event: { case: undefined } };
        yield* generateStream(request, call);
      };
    }),
  ],
  "limits/items": [
    mutation("one prompt less is taken than GetInfo says", /prompts: has 16 items/, (toy) => {
      toy.most.prompts = 15;
    }),
    mutation("more prompts are taken than GetInfo says", /17 prompts: it was accepted/, (toy) => {
      toy.most.prompts = 1000;
    }),
  ],
  "limits/scored": [
    mutation("one sequence less is scored than GetInfo says", /sequences: has 16 items/, (toy) => {
      toy.most.prompts = 15;
    }),
    mutation("more sequences are scored than GetInfo says", /17 sequences: it was accepted/, (toy) => {
      toy.most.prompts = 1000;
    }),
  ],
  "limits/sequences": [
    mutation("sequences of a prompt are not limited", /33 sequences: it was accepted/, (toy) => {
      toy.most.sequences = 1e6;
    }),
  ],
  "limits/stop-strings": [
    mutation("stop strings are not limited", /5 stop strings: it was accepted/, (toy) => {
      toy.most.stopStrings = 1000;
    }),
    mutation("fewer stop strings are taken than GetInfo says", /stop_strings: is 4 strings/, (toy) => {
      toy.most.stopStrings = 3;
    }),
  ],
  "limits/text": [
    mutation("a long text is cut silently", /a prompt of 1025 bytes: it was accepted/, (toy) => {
      const { encode } = toy;
      toy.encode = (text) => encode(text).slice(0, 32);
      unchecked(/text$/)(toy);
    }),
    mutation(
      "a long text is RESOURCE_EXHAUSTED",
      /expected INVALID_ARGUMENT, got RESOURCE_EXHAUSTED/,
      (toy) => {
        const { generate } = toy.methods;
        toy.methods.generate = async (request, call) => {
          if (request.prompts.some(({ input }) => input.case === "text" && input.value.length > 400))
            throw new Refusal(status.RESOURCE_EXHAUSTED, "too large", "TOO_LARGE");
          return generate(request, call);
        };
      },
    ),
  ],
};

/** A model that falls into a loop of its own: every continuation repeats three ids. */
function loops(toy: PolicyToy): void {
  toy.continue = (_, { maxNewTokens }) => {
    const ids = Array.from({ length: maxNewTokens }, (__, t) => 40 + (t % 3));
    return { ids, logprobs: ids.map(() => -1), ended: "length" };
  };
}
