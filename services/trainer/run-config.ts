/**
 * @file The run file: what a run trains, on which rows, with which rewards and servers. One schema per kind of run.
 * In: YAML or JSON text. Out: a frozen, fully resolved configuration, or ConfigError naming every problem.
 */
import { isAbsolute, join, resolve } from "node:path";
import { z } from "zod";
import { ConfigError, type Frozen, parseConfig, parseYaml } from "../../lib/config/index.js";
import { nearestName } from "../../lib/config/nearest.js";
import type { EngineDevice } from "../../lib/engine/index.js";
import { alarmsSchema } from "./health/settings.js";
import { runMetricNames } from "./metrics-catalogue.js";
import { ppoOptionsSchema } from "./ppo/options.js";

const path = z.string().min(1);
const address = z
  .string()
  .regex(/^[^\s:]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$/, "host:port, e.g. 127.0.0.1:50051");
const fraction = z.number().min(0).max(1);
const count = z.number().int().positive();

const dataSchema = z.strictObject({
  /** Rows to train on: .csv, .jsonl or .parquet. */
  train: path,
  /** Held-out rows for the evaluation. */
  test: path.optional(),
  /** Columns of the rows. */
  questionColumn: z.string().default("question"),
  answerColumn: z.string().default("answer"),
  /** Prompt; {question} is the row's question. */
  template: z
    .string()
    .refine((text) => text.includes("{question}"), "a template that holds {question}")
    .default("question: {question}\nanswer:"),
  /** Most rows to use, from the start of the file. */
  maxRows: count.optional(),
});

const controlSchema = z.strictObject({
  /** Tokens that ask for a good and for a bad answer; one is drawn per sample. Empty: no control. */
  tokens: z
    .array(z.string().min(1))
    .refine((tokens) => tokens.length === 0 || tokens.length === 2, "no token or two: [good, bad]")
    .default(["[good]", "[bad]"]),
  /** Where training puts it: before the whole prompt, or before the question inside the template. */
  placement: z.enum(["prompt", "question"]).default("prompt"),
});

const generationFields = {
  maxNewTokens: count,
  minNewTokens: z.number().int().min(0),
  doSample: z.boolean(),
  temperature: z.number().positive(),
  topK: z.number().int().min(0),
  topP: z.number().positive().max(1),
  repetitionPenalty: z.number().positive(),
  noRepeatNgramSize: z.number().int().min(0),
};

/** Generation options of the run file; names and semantics of Hugging Face's generate. */
const generationSchema = z.strictObject({
  maxNewTokens: generationFields.maxNewTokens.default(32),
  minNewTokens: generationFields.minNewTokens.default(0),
  doSample: generationFields.doSample.default(true),
  temperature: generationFields.temperature.default(1),
  topK: generationFields.topK.default(0),
  topP: generationFields.topP.default(1),
  repetitionPenalty: generationFields.repetitionPenalty.default(1),
  noRepeatNgramSize: generationFields.noRepeatNgramSize.default(0),
});

const onFailureSchema = z.strictObject({
  /**
   * Further attempts at a failed call, with jittered backoff; none where the same call would fail alike. Ten take 15 s on average, long
   * enough for a server to be restarted.
   */
  retries: z.number().int().min(0).max(20).default(10),
  /** After that: leave the sample out of the batch, or stop the run. */
  giveUp: z.enum(["drop", "stop"]).default("drop"),
  /**
   * After so many failed attempts in a row the term is not called for a while, and its samples fail at once. More than the attempts of one
   * call, so that it is tried in full.
   */
  circuit: z.strictObject({ failures: count.default(24), coolDownMs: count.default(30_000) }).prefault({}),
});

const termCommon = {
  /** Name in metrics and reports. Default: the type. */
  name: z
    .string()
    .regex(/^[a-z][a-z0-9_]*$/, "lower-case letters, digits and _")
    .optional(),
  weight: z.number().default(1),
  /** True: the sign is flipped for samples with the bad control token. */
  signed: z.boolean().default(true),
  /** "running" centres and scales by the mean and deviation of all scores so far. */
  normalise: z.enum(["none", "running"]).default("none"),
  /** Bound on the absolute value after normalisation. */
  clip: z.number().positive().nullable().default(null),
  onFailure: onFailureSchema.prefault({}),
};

const scoredText = {
  /** What is scored: the response alone, or prompt and response. Default: as ppo.rewardText says. */
  text: z.enum(["response", "full"]).optional(),
};

/** PEM files of a TLS connection: authorities to trust, and our own certificate with its key (mTLS). */
const tlsSchema = z.strictObject({ ca: path.optional(), cert: path.optional(), key: path.optional() });

const serverOfTerm = {
  /** Addresses of this term's own servers. Default: those of `servers`. */
  addresses: z.array(address).default([]),
  /** File with the bearer token of `addresses`; null: they want none. Default: that of `servers`. */
  tokenFile: path.nullable().optional(),
  /** TLS of `addresses`; false: none. Default: that of `servers`. */
  tls: z.union([z.literal(false), tlsSchema]).optional(),
};

const termSchema = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("classifier"),
    ...termCommon,
    ...scoredText,
    ...serverOfTerm,
    /** Label whose score is the reward. Default: the server's. */
    label: z.string().optional(),
    /** Logit or probability. Default: as ppo.rewardTransform says. */
    function: z.enum(["logit", "softmax", "sigmoid"]).optional(),
    truncate: z.boolean().default(true),
  }),
  z.strictObject({
    type: z.literal("bertscore"),
    ...termCommon,
    ...serverOfTerm,
    /** Which of precision, recall and F1 is the reward. */
    measure: z.enum(["precision", "recall", "f1"]).default("f1"),
    layer: z.number().int().min(0).optional(),
    idf: z.boolean().default(false),
    rescale: z.boolean().default(false),
  }),
  z.strictObject({
    type: z.literal("length"),
    ...termCommon,
    /** Score falls linearly from 1 at this many tokens to 0 at none or twice as many. */
    target: count,
  }),
  z.strictObject({
    type: z.literal("format"),
    ...termCommon,
    ...scoredText,
    /** Score is 1 if the expression matches, else 0. */
    pattern: z.string().refine((text) => {
      try {
        return Boolean(new RegExp(text, "u"));
      } catch {
        return false;
      }
    }, "a regular expression"),
  }),
]);

/** One reward term of the run file. */
export type TermConfig = Frozen<z.output<typeof termSchema>>;

const serversSchema = z.strictObject({
  policy: z
    .strictObject({
      /** Servers that generate. None: the command line starts `count` of them. */
      addresses: z.array(address).default([]),
      count: count.default(1),
    })
    .prefault({}),
  /** Servers of the reference policy, with pinned weights. None: the command line starts one. */
  reference: z.strictObject({ addresses: z.array(address).default([]) }).prefault({}),
  /** Servers that classify. None: the command line starts one on `model`. */
  reward: z.strictObject({ addresses: z.array(address).default([]), model: path.optional() }).prefault({}),
  /** Servers of BERTScore, for terms and for the evaluation. None: the command line starts one on `model`. */
  bertscore: z
    .strictObject({
      addresses: z.array(address).default([]),
      model: path.optional(),
      layer: z.number().int().min(0).optional(),
    })
    .prefault({}),
  /** File with the bearer token that the servers want. */
  tokenFile: path.optional(),
  /** Certificates of TLS servers. */
  tls: tlsSchema.optional(),
});

const checkpointSchema = z.strictObject({
  /** A checkpoint after every so many steps, and at the end. */
  every: count.default(10),
  keepLast: count.default(2),
  /** Also keep the checkpoint that is best by this metric of its step; docs/metrics.md names them. */
  keepBest: z.strictObject({ metric: z.string(), mode: z.enum(["max", "min"]).default("max") }).optional(),
});

const evaluationSchema = z.strictObject({
  /** Rows of data.test (or data.train) that the comparison uses. */
  rows: count.default(50),
  generation: z.strictObject(generationFields).partial().default({}),
});

const optimizerSchema = z.strictObject({
  learningRate: z.number().positive(),
  weightDecay: z.number().min(0).default(0),
  warmupSteps: z.number().int().min(0).default(0),
  schedule: z.enum(["constant", "linear", "cosine"]).default("linear"),
  maxGradNorm: z.number().positive().nullable().default(1),
});

const common = {
  /** Everything random in a run derives from it. */
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  /** Threads of the learner. Default: the machine's cores. */
  threads: count.optional(),
  /** Where the learner computes. Default: the trainer's --device. */
  device: z.enum(["cpu", "cuda", "webgpu"]),
  checkpoint: checkpointSchema.prefault({}),
};

const ppoSchema = z.strictObject({
  kind: z.literal("ppo"),
  ...common,
  /** Directory of the policy to tune. */
  model: path,
  /** Directory of the reference policy. Default: the policy before training. */
  reference: path.optional(),
  data: dataSchema,
  control: controlSchema.prefault({}),
  generation: generationSchema.prefault({}),
  rewards: z.array(termSchema).min(1),
  /** Options of PPO; `ppo.profile` names the defaults that they start from. */
  ppo: ppoOptionsSchema.prefault({}),
  /** Batches of PPO. */
  batches: count,
  /** How ppo.learningRate goes on over the run. */
  schedule: z.enum(["constant", "linear", "cosine"]).default("constant"),
  weightDecay: z.number().min(0).default(0),
  servers: serversSchema.prefault({}),
  weights: z
    .strictObject({
      /** nats://host:port, file:/directory, or "auto": NATS where the command line can start it, else the run's directory. */
      bus: z
        .string()
        .regex(/^(nats|tls|file):.+|^auto$/, "nats://host:port, file:/directory or auto")
        .default("auto"),
      /** Most milliseconds to wait until every policy server serves new weights. */
      timeoutMs: count.default(120_000),
    })
    .prefault({}),
  /** 0: each batch is generated by the newest weights; 1: the next batch is generated while this one is learned. */
  maxStaleness: z.union([z.literal(0), z.literal(1)]).default(0),
  /** Most milliseconds for one call of each kind, and for a checkpoint. */
  timeouts: z
    .strictObject({
      generateMs: count.default(300_000),
      scoreMs: count.default(120_000),
      /** For a checkpoint to be on the disk. */
      checkpointMs: count.default(1_800_000),
    })
    .prefault({}),
  /** Waits longer than this are reported, with what is waited for and since when. */
  stalls: z.strictObject({ warnMs: count.default(30_000) }).prefault({}),
  /** Alarms about the health of learning: whether each warns, stops the run or is off, and its thresholds. */
  alarms: alarmsSchema.prefault({}),
  /** True keeps what each batch was learned from, so that `rlhf runs replay` can repeat it. */
  record: z.boolean().default(false),
  evaluation: evaluationSchema.prefault({}),
  /** What a fraction of failed samples in a batch stops the run. */
  maxFailedFraction: fraction.default(0.5),
});

const tokenizerSchema = z.union([
  path,
  z.strictObject({
    /** Size of the vocabulary that is trained on the run's own rows. */
    vocabSize: z.number().int().min(300).max(200_000),
  }),
]);

const sftSchema = z.strictObject({
  kind: z.literal("sft"),
  ...common,
  /** Directory to start from; or `init` for new weights. */
  model: path.optional(),
  init: z
    .strictObject({
      layers: count.default(4),
      width: count.default(128),
      heads: count.default(4),
      positions: count.default(256),
      tokenizer: tokenizerSchema,
    })
    .optional(),
  data: dataSchema,
  /** Text of one example; {question} and {answer} are the row's; the end-of-sequence token follows. */
  template: z.string().default("question: {question}\nanswer: {answer}"),
  /** Loss on every token, or on the answer's alone. */
  lossOn: z.enum(["all", "answer"]).default("all"),
  /** Texts put before a share of the examples, so that the policy has read the control tokens. */
  prefixes: z.array(z.string()).default([]),
  maxTokens: count.default(128),
  epochs: z.number().positive().default(3),
  batchSize: count.default(16),
  optimizer: optimizerSchema.prefault({ learningRate: 5e-4 }),
});

/** A new encoder of a given size. */
const encoderInitSchema = z.strictObject({
  family: z.enum(["bert", "distilbert"]).default("bert"),
  layers: count.default(2),
  width: count.default(128),
  heads: count.default(2),
  positions: count.default(512),
  tokenizer: tokenizerSchema,
});

const rewardSchema = z.strictObject({
  kind: z.literal("reward"),
  ...common,
  model: path.optional(),
  init: encoderInitSchema.optional(),
  data: z.strictObject({
    train: path,
    test: path.optional(),
    textColumn: z.string().default("response"),
    labelColumn: z.string().default("label"),
    /** Share of train held out for the accuracy if there is no test file. */
    heldOut: z.number().min(0).max(0.5).default(0.1),
    maxRows: count.optional(),
  }),
  maxTokens: count.default(128),
  epochs: z.number().positive().default(3),
  batchSize: count.default(16),
  optimizer: optimizerSchema.prefault({ learningRate: 3e-4 }),
});

const encoderSchema = z.strictObject({
  kind: z.literal("encoder"),
  ...common,
  /** Directory to start from; or `init` for new weights. */
  model: path.optional(),
  init: encoderInitSchema.optional(),
  data: z.strictObject({
    train: path,
    test: path.optional(),
    /** Columns whose texts are read, each by itself; a text that occurs more than once is read once an epoch. */
    textColumns: z.array(z.string().min(1)).min(1).default(["question", "answer"]),
    /** Share of the texts held out if there is no test file. */
    heldOut: z.number().min(0).max(0.5).default(0.1),
    maxRows: count.optional(),
  }),
  /** Share of a text's tokens that the model must find; at least one. */
  maskFraction: z.number().gt(0).max(0.9).default(0.15),
  maxTokens: count.default(128),
  epochs: z.number().positive().default(10),
  batchSize: count.default(16),
  optimizer: optimizerSchema.prefault({ learningRate: 5e-4 }),
});

/** Configuration of a PPO run. */
export type PpoRunConfig = Frozen<z.output<typeof ppoSchema>>;
/** Configuration of supervised fine-tuning. */
export type SftRunConfig = Frozen<z.output<typeof sftSchema>>;
/** Configuration of a reward-model run. */
export type RewardRunConfig = Frozen<z.output<typeof rewardSchema>>;
/** Configuration of an encoder's run. */
export type EncoderRunConfig = Frozen<z.output<typeof encoderSchema>>;
/** Configuration of a run of any kind. */
export type RunConfig = PpoRunConfig | SftRunConfig | RewardRunConfig | EncoderRunConfig;

const schemas = { ppo: ppoSchema, sft: sftSchema, reward: rewardSchema, encoder: encoderSchema } as const;

/** What a run file gets that does not say it. */
export interface RunDefaults {
  /** Where the learner computes. Default: cpu. */
  readonly device?: EngineDevice | undefined;
}

/**
 * Parses and checks a run file. Relative paths start from `baseDirectory`. Throws ConfigError with every problem as
 * `field: value → what is accepted`.
 */
export function parseRunConfig(
  text: string,
  baseDirectory: string,
  { device = "cpu" }: RunDefaults = {},
): RunConfig {
  const parsed = parseYaml(text);
  if ("problem" in parsed) throw new ConfigError([`run file: ${parsed.problem}`]);
  const raw = parsed.value;
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    throw new ConfigError(["run file: not a mapping → fields such as kind, model, data"]);
  }
  const kind = (raw as { kind?: unknown }).kind;
  if (typeof kind !== "string" || !Object.hasOwn(schemas, kind)) {
    const accepted = Object.keys(schemas).join(", ");
    throw new ConfigError([`kind: ${JSON.stringify(kind) ?? "missing"} → one of ${accepted}`]);
  }
  const config = parseConfig(schemas[kind as RunConfig["kind"]], { device, ...raw }, "run file") as RunConfig;
  checkAcrossFields(config);
  return resolvePaths(config, baseDirectory);
}

function checkAcrossFields(config: RunConfig): void {
  const problems: string[] = bestMetricProblems(config);
  if (config.kind !== "ppo") {
    if ((config.model === undefined) === (config.init === undefined)) {
      problems.push("model: either `model` (a directory) or `init` (new weights) must be given, not both");
    }
    if (config.init && config.init.width % config.init.heads !== 0) {
      problems.push(`init.heads: ${config.init.heads} does not divide init.width ${config.init.width}`);
    }
    if (config.kind === "sft" && !config.template.includes("{answer}")) {
      problems.push(`template: ${JSON.stringify(config.template)} → a text that holds {answer}`);
    }
  } else {
    const names = config.rewards.map((term) => term.name ?? term.type);
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice) problems.push(`rewards: two terms are named ${twice} → give each its own \`name\``);
    config.rewards.forEach((term, i) => {
      if (term.signed && config.control.tokens.length === 0) {
        problems.push(`rewards[${i}].signed: true → false, since control.tokens is empty`);
      }
      if (!("addresses" in term) || term.addresses.length > 0) return;
      for (const field of ["tokenFile", "tls"] as const) {
        if (term[field] === undefined) continue;
        problems.push(
          `rewards[${i}].${field}: is of the term's own addresses → give rewards[${i}].addresses`,
        );
      }
    });
  }
  if (problems.length > 0) throw new ConfigError(problems);
}

/** A best checkpoint by a metric that no step has would be none, and nobody would hear of it. */
function bestMetricProblems(config: RunConfig): string[] {
  const metric = config.checkpoint.keepBest?.metric;
  const terms = config.kind === "ppo" ? config.rewards.map((term) => term.name ?? term.type) : [];
  const known = runMetricNames(config.kind, terms);
  if (metric === undefined || known.includes(metric)) return [];
  const near = nearestName(metric, known);
  const accepted = near ? `did you mean ${JSON.stringify(near)}?` : "a metric of docs/metrics.md";
  return [
    `checkpoint.keepBest.metric: ${JSON.stringify(metric)}, which no ${config.kind} run has → ${accepted}`,
  ];
}

/** How servers are reached: the part of it that is files. */
export interface Connection {
  readonly tokenFile?: string | null | undefined;
  readonly tls?: false | { readonly [name in "ca" | "cert" | "key"]?: string | undefined } | undefined;
}

function resolvePaths(config: RunConfig, base: string): RunConfig {
  const at = (value: string): string => (isAbsolute(value) ? value : resolve(join(base, value)));
  const data = { ...config.data, train: at(config.data.train) };
  if (data.test) data.test = at(data.test);
  if (config.kind === "ppo") {
    const { bus } = config.weights;
    const { reward, bertscore } = config.servers;
    const connection = <C extends Connection>({ tokenFile, tls }: C) => ({
      ...(tokenFile ? { tokenFile: at(tokenFile) } : {}),
      ...(tls
        ? { tls: Object.fromEntries(Object.entries(tls).map(([name, file]) => [name, at(file)])) }
        : {}),
    });
    return Object.freeze({
      ...config,
      data,
      model: at(config.model),
      ...(config.reference ? { reference: at(config.reference) } : {}),
      rewards: config.rewards.map((term) => ("addresses" in term ? { ...term, ...connection(term) } : term)),
      servers: {
        ...config.servers,
        ...connection(config.servers),
        reward: { ...config.servers.reward, ...(reward.model ? { model: at(reward.model) } : {}) },
        bertscore: {
          ...config.servers.bertscore,
          ...(bertscore.model ? { model: at(bertscore.model) } : {}),
        },
      },
      weights: {
        ...config.weights,
        bus: bus.startsWith("file:") ? `file:${at(bus.slice("file:".length))}` : bus,
      },
    }) as PpoRunConfig;
  }
  const init = config.init && {
    ...config.init,
    tokenizer: typeof config.init.tokenizer === "string" ? at(config.init.tokenizer) : config.init.tokenizer,
  };
  return Object.freeze({
    ...config,
    data,
    ...(config.model ? { model: at(config.model) } : {}),
    ...(init ? { init } : {}),
  }) as SftRunConfig | RewardRunConfig | EncoderRunConfig;
}
