/** @file The model servers of one run as processes, and the part of a run file that names them. */
import { join } from "node:path";
import type { TinyModels } from "./models.js";
import type { Service } from "./processes.js";
import { serversOf } from "./runs.js";
import type { Sandbox } from "./sandbox.js";

/** What the servers are started for. */
export interface ClusterOptions {
  readonly runId: string;
  /** Weights bus that the policies follow. */
  readonly bus: string;
  /** Policy servers; default 1. */
  readonly policies?: number;
  /** True makes the numbers of a sequence independent of what shares its batch. */
  readonly batchInvariant?: boolean;
  /** Folder of trace files, one a process. */
  readonly traces?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly logLevel?: string;
}

/** Servers that run. */
export interface Cluster {
  readonly policies: readonly Service[];
  readonly reference: Service;
  readonly reward: Service;
  /** `servers` and `weights` of the run file. */
  readonly fields: { readonly servers: object; readonly weights: { readonly bus: string } };
  /** Ends all of them in order, so that their telemetry is complete. */
  stop(): Promise<void>;
}

/** Arguments of a policy server that follows the run; its `listen` may name the port of one that died. */
export function policyArgs(
  models: TinyModels,
  options: ClusterOptions,
  name = "policy",
  listen?: string,
): string[] {
  const { bus, runId, batchInvariant } = options;
  return [
    ...["--model", models.policy, "--weights", bus, "--run", runId, ...common(options, name)],
    ...(batchInvariant ? ["--batch-invariant"] : []),
    ...(listen ? ["--listen", listen] : []),
  ];
}

/** Starts policy servers, reference and reward. */
export async function startCluster(
  sandbox: Sandbox,
  models: TinyModels,
  options: ClusterOptions,
): Promise<Cluster> {
  const { env = {} } = options;
  const names = Array.from({ length: options.policies ?? 1 }, (_, i) =>
    i === 0 ? "policy" : `policy-${i + 1}`,
  );
  const [reference, reward, ...policies] = await Promise.all([
    sandbox.serve("policy", ["--model", models.policy, "--pinned", ...common(options, "reference")], { env }),
    sandbox.serve("reward", ["--model", models.reward, ...common(options, "reward")], { env }),
    ...names.map((name) => sandbox.serve("policy", policyArgs(models, options, name), { env })),
  ]);
  const servers = serversOf({
    policy: policies.map(({ address }) => address),
    reference: [reference.address],
    reward: [reward.address],
  });
  return {
    policies,
    reference,
    reward,
    fields: { servers, weights: { bus: options.bus } },
    stop: async () => {
      await Promise.all([reference, reward, ...policies].map((service) => service.stop()));
    },
  };
}

function common({ traces, logLevel }: ClusterOptions, name: string): string[] {
  return [
    ...(traces ? ["--trace-file", join(traces, `${name}.jsonl`)] : []),
    ...(logLevel ? ["--log-level", logLevel] : []),
  ];
}
