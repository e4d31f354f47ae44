/**
 * @file Before and after: the reference policy, and the tuned policy with each control token, answer the same held-out
 * questions with the same seeds; classifier and BERTScore judge all of them.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Rng } from "../../../lib/dataset/index.js";
import { injectTraceparent, withSpan } from "../../../lib/telemetry/index.js";
import { loadTokenizer } from "../../../lib/tokenizer/index.js";
import { RunStateError } from "../errors.js";
import { writeReport } from "../report/write-report.js";
import { jitteredBackoff, runShards } from "../rollout/pool.js";
import { buildPrompt, newTokens, sampleSeed } from "../rollout/prompts.js";
import { type QaRow, readQaRows } from "../rollout/rows.js";
import type { PromptSample, RolloutSample } from "../rollout/sample.js";
import { type PpoRunConfig, parseRunConfig } from "../run-config.js";
import { checkResumeConfig } from "../runs/changed-config.js";
import { writeFileAtomic } from "../runs/files.js";
import type { RunManager } from "../runs/manager.js";
import type { RunRecord } from "../runs/record.js";
import { judgesOf, rawScoreOf, scorersOf } from "../scoring/terms.js";
import { mayRetry, type PolicyMember, RunServers, type VersionDemand } from "../servers/servers.js";
import {
  type ComparisonRow,
  type ScoredResponse,
  summarise,
  toCsv,
  toMarkdown,
  type VariantSummary,
} from "./comparison.js";

/** What to compare. */
export interface EvaluateOptions {
  readonly rows?: number | undefined;
  readonly seed?: number | undefined;
  /** Run file with other servers. */
  readonly config?: string | undefined;
  readonly signal: AbortSignal;
  /** Epoch milliseconds. */
  readonly deadline?: number | undefined;
}

/** A comparison and the files it was written to. */
export interface Evaluation {
  readonly variants: readonly VariantSummary[];
  readonly rows: readonly ComparisonRow[];
  readonly paths: { readonly csv: string; readonly markdown: string; readonly report: string };
}

/** One policy under one control token. */
interface Variant {
  readonly name: string;
  readonly control: string;
  /** Servers, and which of their versions is to answer. */
  readonly members: readonly PolicyMember[];
  readonly demandOf: (member: PolicyMember) => VersionDemand;
}

const RETRIES = 5;

const LOOKS = 12; // about half a minute: a server that was restarted loads its model

/** Compares policies of runs. */
export class Evaluator {
  constructor(private readonly runs: RunManager) {}

  /** Evaluates a PPO run. Throws RunStateError for a run that has nothing to compare. */
  async evaluate(runId: string, options: EvaluateOptions): Promise<Evaluation> {
    const { record, directory, config: text } = this.runs.get(runId);
    if (record.kind !== "ppo")
      throw new RunStateError(`run ${runId} is of kind ${record.kind}; only ppo runs are compared`);
    if (!record.weights) throw new RunStateError(`run ${runId} has published no weights yet`);
    const kept = parseRunConfig(text, directory) as PpoRunConfig;
    const config =
      options.config === undefined ? kept : (parseRunConfig(options.config, directory) as PpoRunConfig);
    checkResumeConfig(kept, config);
    const servers = new RunServers(config, options.deadline);
    try {
      // a trace of its own, which the run keeps; who asked for it is a link away
      const asked = [injectTraceparent()];
      const span = { parent: "root" as const, links: asked, attributes: { "rlhf.run": runId } };
      return await withSpan("rlhf.evaluate", span, () =>
        this.#compare(config, directory, record, servers, options),
      );
    } finally {
      servers.close();
    }
  }

  async #compare(
    config: PpoRunConfig,
    directory: string,
    record: RunRecord,
    servers: RunServers,
    options: EvaluateOptions,
  ): Promise<Evaluation> {
    const seed = options.seed ?? config.seed;
    const rows = await chooseRows(config, options.rows ?? config.evaluation.rows, seed);
    const tokenizer = await loadTokenizer(config.model);
    const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false }).ids;
    const variants = variantsOf(config, servers, await holders(servers, record, options.signal));
    const answered: ScoredResponse[][] = [];
    for (const variant of variants) {
      const prompts = rows.map((row, index) => promptOf(config, row, index, variant.control, seed, encode));
      const samples = await generate(config, servers, variant, prompts, options.signal);
      answered.push(await score(config, servers, samples, options.signal));
    }
    const compared = rows.map((row, i) => ({
      ...row,
      responses: answered.map((own) => own[i] as ScoredResponse),
    }));
    const summary = summarise(
      variants.map(({ name }) => name),
      compared,
      Rng.from(seed, "bootstrap"),
    );
    const folder = join(directory, "evaluation");
    mkdirSync(folder, { recursive: true });
    const paths = { csv: join(folder, "comparison.csv"), markdown: join(folder, "comparison.md") };
    writeFileAtomic(paths.csv, toCsv(summary, compared));
    writeFileAtomic(paths.markdown, toMarkdown("Before and after", summary, compared));
    const { signal } = options;
    const evaluated = { record, directory, config, servers, variants: summary, rows: compared, seed, signal };
    return { variants: summary, rows: compared, paths: { ...paths, report: await writeReport(evaluated) } };
  }
}

/**
 * The policy servers that hold the run's newest weights, each with its version of them. The digest says so: servers that were started on
 * the tuned model need not count versions as the bus of the run did.
 */
async function holders(
  servers: RunServers,
  { id, weights }: RunRecord,
  signal: AbortSignal,
): Promise<Map<PolicyMember, VersionDemand>> {
  const backoff = jitteredBackoff(signal);
  for (let attempt = 1; ; attempt++) {
    const found = new Map<PolicyMember, VersionDemand>();
    const others: string[] = [];
    const look = async (member: PolicyMember) => {
      try {
        const { version, digest } = await servers.describe(member, signal);
        if (digest === weights?.digest) found.set(member, { exactly: version });
        else others.push(`${member.address} serves version ${version} (${digest.slice(0, 12)}…)`);
      } catch (error) {
        others.push(`${member.address}: ${(error as Error).message}`);
      }
    };
    await Promise.all(servers.policies.map(look));
    if (found.size > 0) return found;
    if (attempt > LOOKS) {
      const wanted = `version ${weights?.version} (${weights?.digest.slice(0, 12)}…)`;
      throw new RunStateError(
        `run ${id}: no policy server serves its newest weights, ${wanted}: ${others.join("; ")}`,
      );
    }
    await backoff(attempt);
  }
}

function variantsOf(
  config: PpoRunConfig,
  servers: RunServers,
  holding: ReadonlyMap<PolicyMember, VersionDemand>,
): Variant[] {
  const members = servers.policies.filter((member) => holding.has(member));
  const tuned = { members, demandOf: (member: PolicyMember) => holding.get(member) ?? {} };
  const reference = {
    name: "reference",
    control: "",
    members: servers.references,
    demandOf: () => ({}),
  };
  const [good, bad] = config.control.tokens;
  if (good === undefined || bad === undefined) return [reference, { name: "tuned", control: "", ...tuned }];
  return [
    reference,
    { name: `tuned ${good}`, control: good, ...tuned },
    { name: `tuned ${bad}`, control: bad, ...tuned },
  ];
}

async function chooseRows(config: PpoRunConfig, count: number, seed: number): Promise<QaRow[]> {
  const rows = await readQaRows(config.data, "test");
  return Rng.from(seed, "evaluation")
    .shuffle([...rows])
    .slice(0, count);
}

function promptOf(
  config: PpoRunConfig,
  row: QaRow,
  index: number,
  control: string,
  seed: number,
  encode: (text: string) => readonly number[],
): PromptSample {
  const placement = config.ppo.evalControlPlacement === "as-trained" ? config.control.placement : "question";
  const { text, ids } = buildPrompt(config.data.template, row.question, control, placement, encode);
  const generation = { ...config.generation, ...config.evaluation.generation };
  return {
    index,
    ...row,
    control,
    sign: 1,
    prompt: text,
    promptIds: ids,
    seed: sampleSeed(seed, -1, index), // no batch has this number
    maxNewTokens: newTokens({ ...config, generation }, row),
  };
}

async function generate(
  config: PpoRunConfig,
  servers: RunServers,
  variant: Variant,
  prompts: readonly PromptSample[],
  signal: AbortSignal,
): Promise<RolloutSample[]> {
  const rule = { retries: RETRIES, backoff: jitteredBackoff(signal), mayRetry, onFailure: () => {} };
  const parts: RolloutSample[] = [];
  const shards = runShards(prompts, variant.members, rule, (member, shard) =>
    servers.generate(member, shard.items, {
      generation: { ...config.generation, ...config.evaluation.generation },
      eosStops: config.ppo.eosStops,
      demand: variant.demandOf(member),
      signal,
      deadlineMs: config.timeouts.generateMs,
    }),
  );
  for await (const { result } of shards) parts.push(...result);
  return parts.sort((a, b) => a.index - b.index);
}

/** Judges responses by the run's first classifier term, and by BERTScore where the run has a server of it. */
async function score(
  config: PpoRunConfig,
  servers: RunServers,
  samples: readonly RolloutSample[],
  signal: AbortSignal,
): Promise<ScoredResponse[]> {
  const classifier = config.rewards.find((term) => term.type === "classifier");
  const rewards = classifier
    ? await rawScoreOf(classifier, scorersOf(classifier, config), servers, config.ppo)(samples, signal)
    : samples.map(() => Number.NaN);
  const { addresses, layer } = config.servers.bertscore;
  const judges = judgesOf(config);
  const pairs = samples.map((sample) => ({ candidate: sample.response, reference: sample.answer }));
  const none = { precision: Number.NaN, recall: Number.NaN, f1: Number.NaN };
  const similarities =
    addresses.length > 0
      ? await servers.similarities(judges, { pairs, layer, idf: false, rescale: false }, signal)
      : pairs.map(() => none);
  return samples.map((sample, i) => ({
    response: sample.response,
    tokens: sample.responseIds.length,
    ...(similarities[i] ?? none),
    reward: rewards[i] as number,
  }));
}
