/** @file Runs the checks of one service against one server, one after the other, and sums up. */
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { ServiceError } from "@grpc/grpc-js";
import {
  BertScoreService,
  type GetInfoResponse as BertscoreInfo,
} from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import {
  type GetInfoResponse as PolicyInfo,
  PolicyService,
} from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import {
  type GetInfoResponse as RewardInfo,
  RewardService,
} from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { type ClientOptions, createClient, RpcError } from "../../lib/rpc/index.js";
import { CliError, EXIT } from "../exit-codes.js";
import { authChecks } from "./auth.js";
import { BertscoreTarget, bertscoreChecks } from "./bertscore.js";
import { type Check, NotChecked, type Outcome } from "./check.js";
import { errorChecks } from "./errors.js";
import { healthChecks } from "./health.js";
import { infoChecks } from "./info.js";
import { limitChecks } from "./limits.js";
import { policyChecks } from "./policy/checks.js";
import { PolicyTarget } from "./policy/target.js";
import { reflectionChecks } from "./reflection.js";
import { RewardTarget, rewardChecks } from "./reward.js";
import { stopChecks } from "./stops.js";
import type { Target, TargetOptions } from "./target.js";
import { traceChecks } from "./traces.js";

/** What became of one check. */
export interface CheckResult {
  readonly id: string;
  readonly what: string;
  readonly outcome: Outcome;
  /** What was seen, why it failed, or why it could not be told. */
  readonly detail: string;
  readonly ms: number;
}

/** Which checks to run: names or groups (`score`, `score/order`). */
export interface Selection {
  /** Only these. Default: all. */
  readonly only?: readonly string[];
  /** Not these. */
  readonly skip?: readonly string[];
}

interface Kind {
  readonly desc: GenService<GenServiceMethods>;
  open(address: string, options: TargetOptions, info: unknown): Target;
  readonly checks: readonly Check<never>[];
}

const COMMON = [
  ...infoChecks,
  ...errorChecks,
  ...limitChecks,
  ...authChecks,
  ...stopChecks,
  ...traceChecks,
  ...healthChecks,
  ...reflectionChecks,
];

const KINDS = {
  reward: {
    desc: RewardService,
    open: (address, options, info) => new RewardTarget(address, options, info as RewardInfo | undefined),
    checks: inGroups([...COMMON, ...rewardChecks]),
  },
  policy: {
    desc: PolicyService,
    open: (address, options, info) => new PolicyTarget(address, options, info as PolicyInfo | undefined),
    checks: inGroups([...COMMON, ...policyChecks]),
  },
  bertscore: {
    desc: BertScoreService,
    open: (address, options, info) =>
      new BertscoreTarget(address, options, info as BertscoreInfo | undefined),
    checks: inGroups([...COMMON, ...bertscoreChecks]),
  },
} satisfies Record<string, Kind>;

/** Services that have a contract to check. */
export const CONFORMANCE_KINDS = Object.keys(KINDS) as ConformanceKind[];
/** One of them. */
export type ConformanceKind = keyof typeof KINDS;

/** Names and meanings of the checks of a service. */
export function checksOf(kind: ConformanceKind): readonly { id: string; what: string }[] {
  return KINDS[kind].checks;
}

/**
 * Runs checks; `onResult` hears of each as it ends. Rejects with RpcError or CliError where the server cannot be reached, is none, or
 * lets nobody in, and with RangeError where the selection names no check.
 */
export async function runConformance(
  kind: ConformanceKind,
  address: string,
  options: TargetOptions,
  selection: Selection = {},
  onResult: (result: CheckResult) => void = () => {},
): Promise<CheckResult[]> {
  const { desc, open, checks }: Kind = KINDS[kind];
  const chosen = select(checks, selection);
  const target = open(address, options, await describe(address, desc, options));
  const results: CheckResult[] = [];
  try {
    for (const check of chosen) {
      const result = await runCheck(check as Check<Target>, target);
      results.push(result);
      onResult(result);
    }
  } finally {
    target.close();
  }
  return results;
}

/** What GetInfo may not end with: there is nobody to check, or nobody who talks to us. */
const FATAL = new Set(["UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "PERMISSION_DENIED"]);

/** What GetInfo says; undefined if the server does not answer it. Rejects where the server cannot be reached or asks for a token. */
async function describe(
  address: string,
  desc: GenService<GenServiceMethods>,
  options: ClientOptions,
): Promise<unknown> {
  const client = createClient(desc, address, { ...options, retry: false }) as unknown as {
    getInfo(request: object): Promise<unknown>;
    close(): void;
  };
  try {
    return await client.getInfo({});
  } catch (error) {
    if (!(error instanceof RpcError) || FATAL.has(error.status)) throw error;
    const { details = "" } = error.cause as ServiceError;
    if (/HTTP status code/.test(details)) {
      throw new CliError(`${address} is no gRPC server: ${details}`, EXIT.unavailable, { cause: error });
    }
    return undefined;
  } finally {
    client.close();
  }
}

async function runCheck(check: Check<Target>, target: Target): Promise<CheckResult> {
  const { id, what } = check;
  const began = performance.now();
  const result = (outcome: Outcome, detail: string): CheckResult => ({
    id,
    what,
    outcome,
    detail,
    ms: Math.round(performance.now() - began),
  });
  try {
    const seen = await check.run(target);
    return result("pass", typeof seen === "string" ? seen : "");
  } catch (error) {
    // whatever a check did not foresee is a promise that was not kept
    return result(error instanceof NotChecked ? "skip" : "fail", (error as Error).message);
  }
}

function select(
  checks: readonly Check<never>[],
  { only = [], skip = [] }: Selection,
): readonly Check<never>[] {
  const matches = (id: string, name: string) => id === name || id.startsWith(`${name}/`);
  for (const name of [...only, ...skip]) {
    if (!checks.some(({ id }) => matches(id, name))) {
      const groups = [...new Set(checks.map(({ id }) => id.split("/")[0]))];
      throw new RangeError(
        `${JSON.stringify(name)} names no check; accepted: ${groups.join(", ")}, or one check such as ${checks[0]?.id}`,
      );
    }
  }
  return checks.filter(
    ({ id }) =>
      (only.length === 0 || only.some((name) => matches(id, name))) &&
      !skip.some((name) => matches(id, name)),
  );
}

/** Checks of a group together, groups in the order of their first check. */
function inGroups(checks: readonly Check<never>[]): readonly Check<never>[] {
  const groups = new Map<string, Check<never>[]>();
  for (const check of checks) {
    const group = check.id.split("/")[0] as string;
    groups.set(group, [...(groups.get(group) ?? []), check]);
  }
  return [...groups.values()].flat();
}
