/**
 * @file The embedded default: what a run needs and no address was given for is started here, on loopback, and stopped
 * at the end. In: a run file. Out: addresses put into it.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { findNatsServer, startNatsServer } from "../lib/weights/index.js";
import { type RunningService, ServiceGroup, type ServiceSpec } from "./processes.js";
import { checkRunFile } from "./run-file.js";

/** The part of a run file that says which servers it needs; the trainer checks the whole. */
const needsSchema = z.looseObject({
  kind: z.string().optional(),
  model: z.string().optional(),
  reference: z.string().optional(),
  device: z.string().optional(),
  servers: z
    .looseObject({
      policy: z
        .looseObject({ addresses: z.array(z.string()).optional(), count: z.number().optional() })
        .optional(),
      reference: z.looseObject({ addresses: z.array(z.string()).optional() }).optional(),
      reward: z
        .looseObject({ addresses: z.array(z.string()).optional(), model: z.string().optional() })
        .optional(),
      bertscore: z
        .looseObject({
          addresses: z.array(z.string()).optional(),
          model: z.string().optional(),
          layer: z.number().optional(),
        })
        .optional(),
    })
    .optional(),
  weights: z.looseObject({ bus: z.string().optional() }).optional(),
});

/** Services that can be started for a run. */
const STARTABLE = ["policy", "reference", "reward", "bertscore"] as const;

/** File of a run directory that says which servers were started for the run. */
const MARK = "embedded.json";

/** A run file as the trainer gets it, and what was started for it. */
export interface EmbeddedRun {
  readonly trainer: RunningService;
  /** The run file with the addresses of what was started. */
  readonly config: string;
  /** How weights travel, for people: "NATS (…)" or "files in …". */
  readonly bus: string;
  readonly services: readonly RunningService[];
}

/** What to start for a run. */
export interface EmbeddedOptions {
  /** Text of the run file. */
  readonly config: string;
  /** Relative paths of the run file start here. */
  readonly baseDirectory: string;
  readonly runId: string;
  readonly runsDirectory: string;
  /** nats://… from the command line; else a server is started where one is on the PATH. */
  readonly nats?: string | undefined;
  /** Directory that the policy servers serve, pinned: for a comparison after the run. Default: the run file's model. */
  readonly tunedModel?: string | undefined;
  readonly logLevel?: string | undefined;
}

/** Starts and stops the processes of embedded runs; one trainer for all of them. */
export class Embedded {
  readonly #group: ServiceGroup;
  readonly #cleanups: (() => Promise<void>)[] = [];
  #trainer: RunningService | undefined;

  constructor(onExit?: (name: string, how: string) => void) {
    this.#group = new ServiceGroup(onExit);
  }

  /** Starts the trainer if there is none yet. */
  async trainer(runsDirectory: string, logLevel?: string): Promise<RunningService> {
    this.#trainer ??= (
      await this.#group.start([
        {
          service: "trainer",
          name: "trainer",
          args: ["--runs-dir", runsDirectory, ...levelArgs(logLevel)],
          logFile: join(runsDirectory, ".trainer", "trainer.log"),
        },
      ])
    )[0] as RunningService;
    return this.#trainer;
  }

  /** Starts what a run needs. Throws CliError with the reason and the end of the log if a process can't start. */
  async start(options: EmbeddedOptions): Promise<EmbeddedRun> {
    await checkRunFile(options);
    const document = parseRunFile(options.config);
    const needs = needsSchema.safeParse(document);
    const runDirectory = join(options.runsDirectory, options.runId);
    const trainer = await this.trainer(options.runsDirectory, options.logLevel);
    // a run file that is wrong here is wrong for the trainer too, which names every problem
    if (!needs.success || needs.data.kind !== "ppo" || needs.data.model === undefined) {
      return { trainer, config: options.config, bus: "", services: [trainer] };
    }
    mkdirSync(runDirectory, { recursive: true });
    const wantedBus = needs.data.weights?.bus ?? "auto";
    const bus = options.tunedModel
      ? { url: wantedBus, label: "" }
      : await this.#bus(wantedBus, options, runDirectory);
    const specs = serviceSpecs(needs.data as Needs, options, runDirectory, bus.url);
    const services = await this.#group.start(specs);
    const addressesOf = (service: string) =>
      services
        .filter(({ name }) => name === service || name.startsWith(`${service}-`))
        .map(({ address }) => address);
    const servers = { ...(document.servers as Record<string, object> | undefined) };
    const ours: string[] = [];
    for (const service of STARTABLE) {
      const started = addressesOf(service);
      if (started.length === 0) continue;
      servers[service] = { ...servers[service], addresses: started };
      ours.push(service);
    }
    writeFileSync(join(runDirectory, MARK), JSON.stringify({ servers: ours, bus: wantedBus }));
    const config = {
      ...document,
      servers,
      weights: { ...(document.weights as object | undefined), bus: bus.url },
    };
    return { trainer, config: JSON.stringify(config), bus: bus.label, services: [trainer, ...services] };
  }

  /** Stops everything that was started, in order. */
  async stop(): Promise<void> {
    await this.#group.stop();
    for (const cleanup of this.#cleanups.splice(0)) await cleanup();
  }

  /** Stops everything at once. */
  kill(): void {
    this.#group.kill();
    for (const cleanup of this.#cleanups.splice(0)) void cleanup();
  }

  async #bus(
    wanted: string,
    options: EmbeddedOptions,
    runDirectory: string,
  ): Promise<{ url: string; label: string }> {
    if (wanted !== "auto") return { url: wanted, label: wanted };
    if (options.nats) return { url: options.nats, label: `NATS at ${options.nats}` };
    if (await findNatsServer()) {
      const server = await startNatsServer();
      this.#cleanups.push(() => server.stop());
      return { url: server.url, label: `NATS (started at ${server.url})` };
    }
    const folder = join(runDirectory, "weights");
    return { url: `file:${folder}`, label: `files in ${folder} (no nats-server on the PATH)` };
  }
}

/**
 * The run file of a run directory as it was before servers were started for it: their addresses are gone with them. A file
 * whose servers are somebody else's stays as it is.
 */
export function withoutEmbeddedServers(runDirectory: string, config: string): string {
  const path = join(runDirectory, MARK);
  if (!existsSync(path)) return config;
  const mark = JSON.parse(readFileSync(path, "utf8")) as { servers: string[]; bus: string };
  const document = parseRunFile(config);
  const servers = { ...(document.servers as Record<string, object> | undefined) };
  for (const service of mark.servers) servers[service] = { ...servers[service], addresses: [] };
  return JSON.stringify({
    ...document,
    servers,
    weights: { ...(document.weights as object), bus: mark.bus },
  });
}

type Needs = z.output<typeof needsSchema> & { model: string };

function serviceSpecs(
  needs: Needs,
  options: EmbeddedOptions,
  runDirectory: string,
  bus: string,
): ServiceSpec[] {
  const at = (path: string) => (isAbsolute(path) ? path : resolve(options.baseDirectory, path));
  const common = (name: string) => [
    "--listen",
    "127.0.0.1:0",
    "--device",
    needs.device ?? "cpu",
    "--threads",
    String(availableParallelism()),
    ...traceArgs(join(runDirectory, "traces"), name),
    ...levelArgs(options.logLevel),
  ];
  const spec = (service: string, name: string, args: readonly string[]): ServiceSpec => ({
    service,
    name,
    args: [...args, ...common(name)],
    logFile: join(runDirectory, "logs", `${name}.log`),
    restart: true, // the trainer goes on once it is back
  });
  // a resumed run repeats its numbers whatever was computed together
  const invariant = (needs.device ?? "cpu") === "cpu" ? ["--batch-invariant"] : [];
  const { policy, reference, reward, bertscore } = needs.servers ?? {};
  const specs: ServiceSpec[] = [];
  if (!policy?.addresses?.length) {
    const count = policy?.count ?? 1;
    for (let i = 1; i <= count; i++) {
      specs.push(
        spec("policy", count === 1 ? "policy" : `policy-${i}`, [
          ...(options.tunedModel
            ? ["--model", options.tunedModel, "--pinned"]
            : ["--model", at(needs.model), "--weights", bus, "--run", options.runId]),
          "--batch-invariant",
        ]),
      );
    }
  }
  if (!reference?.addresses?.length) {
    specs.push(
      spec("policy", "reference", [
        "--model",
        at(needs.reference ?? needs.model),
        "--pinned",
        "--batch-invariant",
      ]),
    );
  }
  if (!reward?.addresses?.length && reward?.model) {
    specs.push(spec("reward", "reward", ["--model", at(reward.model), ...invariant]));
  }
  if (!bertscore?.addresses?.length && bertscore?.model) {
    const layer = bertscore.layer === undefined ? [] : ["--layer", String(bertscore.layer)];
    specs.push(spec("bertscore", "bertscore", ["--model", at(bertscore.model), ...layer, ...invariant]));
  }
  return specs;
}

function parseRunFile(text: string): Record<string, unknown> {
  try {
    const document: unknown = parse(text);
    if (typeof document === "object" && document !== null) return document as Record<string, unknown>;
  } catch {
    // the trainer says what is wrong with it
  }
  return {};
}

const traceArgs = (folder: string, name: string) => ["--trace-file", join(folder, `${name}.jsonl`)];
const levelArgs = (level: string | undefined) => (level ? ["--log-level", level] : []);
