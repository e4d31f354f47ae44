/** @file `rlhf doctor`: checks this machine and every address it is given, and says what is wrong and what to do. */
import { execFileSync } from "node:child_process";
import { availableParallelism, freemem } from "node:os";
import { Health, HealthCheckResponse_ServingStatus } from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import { BertScoreService } from "../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RewardService } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { TrainerService } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { createEngine } from "../../lib/engine/index.js";
import { createClient, RpcError } from "../../lib/rpc/index.js";
import { findNatsServer } from "../../lib/weights/index.js";
import { type ConnectionOptions, clientOptions } from "../connection.js";
import { CliError, EXIT } from "../exit-codes.js";
import { type Output, paint } from "../output.js";

/** One check. */
interface Finding {
  readonly what: string;
  readonly ok: boolean;
  /** False: worth knowing, no problem. */
  readonly required: boolean;
  readonly detail: string;
}

/** Options of `rlhf doctor`. */
export interface DoctorOptions extends ConnectionOptions {
  /** False leaves this machine out. */
  readonly machine?: boolean;
}

/** Addresses to check, each as `service=host:port` or `host:port`. */
export async function doctor(
  addresses: readonly string[],
  options: DoctorOptions,
  output: Output,
): Promise<void> {
  if (options.machine === false && addresses.length === 0) {
    throw new CliError("doctor --no-machine: give the address of a server", EXIT.usage);
  }
  const findings = [
    ...(options.machine === false ? [] : await machine()),
    ...(await Promise.all(addresses.map((a) => server(a, options)))).flat(),
  ];
  const bad = findings.filter(({ ok, required }) => !ok && required);
  const lines = findings.map(({ what, ok, required, detail }) => {
    const mark = ok
      ? paint("green", "ok     ")
      : required
        ? paint("red", "problem")
        : paint("yellow", "note   ");
    return `${mark}  ${what.padEnd(34)}  ${detail}`;
  });
  output.result(findings, lines.join("\n"));
  if (bad.length > 0) {
    throw new CliError(`${bad.length} ${bad.length === 1 ? "problem" : "problems"} found`, EXIT.unavailable);
  }
}

async function machine(): Promise<Finding[]> {
  const findings: Finding[] = [];
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const node = major > 20 || (major === 20 && minor >= 19);
  findings.push({
    what: "Node.js",
    ok: node,
    required: true,
    detail: `${process.version}${node ? "" : ": install 20.19 or newer"}, ${availableParallelism()} cores, ${Math.round(freemem() / 2 ** 30)} GiB free`,
  });
  for (const device of ["cpu", "cuda", "webgpu"] as const) {
    try {
      const engine = await createEngine({ device });
      findings.push({ what: `device ${device}`, ok: true, required: device === "cpu", detail: engine.name });
      await engine.close();
    } catch (error) {
      findings.push({
        what: `device ${device}`,
        ok: false,
        required: device === "cpu",
        detail: firstLine(error),
      });
    }
  }
  const nats = await findNatsServer();
  findings.push({
    what: "nats-server",
    ok: nats !== undefined,
    required: false,
    detail: nats
      ? `${nats} (${version(nats)})`
      : "not on the PATH: weights travel through files (apt install nats-server)",
  });
  return findings;
}

const SERVICES = {
  policy: PolicyService,
  reward: RewardService,
  bertscore: BertScoreService,
  trainer: TrainerService,
};

async function server(given: string, options: ConnectionOptions): Promise<Finding[]> {
  const at = given.indexOf("=");
  const kind = at < 0 ? undefined : given.slice(0, at);
  const address = given.slice(at + 1);
  if (kind !== undefined && !Object.hasOwn(SERVICES, kind)) {
    throw new CliError(`${given}: expected ${Object.keys(SERVICES).join("=…, ")}=… or host:port`, EXIT.usage);
  }
  const findings: Finding[] = [];
  const add = (what: string, ok: boolean, detail: string) =>
    findings.push({ what: `${address} ${what}`, ok, required: true, detail });
  const wanted = { ...clientOptions(options), deadlineMs: 5_000, retry: false } as const;
  const health = createClient(Health, address, wanted);
  try {
    const { status } = await health.check({ service: "" });
    const serving = status === HealthCheckResponse_ServingStatus.SERVING;
    add(
      "health",
      serving,
      serving ? "SERVING" : `${HealthCheckResponse_ServingStatus[status]}: it loads or drains`,
    );
  } catch (error) {
    add("health", false, advice(error));
    return findings;
  } finally {
    health.close();
  }
  for (const [name, desc] of Object.entries(SERVICES)) {
    if (kind !== undefined && name !== kind) continue;
    const finding = await describe(name, desc as typeof RewardService, address, wanted);
    if (finding || kind !== undefined) {
      add(
        name,
        finding?.ok ?? false,
        finding?.detail ?? `does not serve ${desc.typeName}; is it another service?`,
      );
    }
  }
  if (findings.length === 1) add("services", false, "serves none of policy, reward, bertscore, trainer");
  return findings;
}

/** What a service says of itself; undefined if the server does not have it. */
async function describe(
  name: string,
  desc: typeof RewardService,
  address: string,
  options: Parameters<typeof createClient>[2],
): Promise<{ ok: boolean; detail: string } | undefined> {
  try {
    if (name === "trainer") {
      const client = createClient(TrainerService, address, options);
      try {
        const { runs } = await client.listRuns({});
        return { ok: true, detail: `${runs.length} runs` };
      } finally {
        client.close();
      }
    }
    const client = createClient(desc, address, options);
    try {
      const { model, server: facts } = await client.getInfo({});
      const digest = model?.weights?.digest.slice(0, 12);
      return {
        ok: true,
        detail: `${model?.name} (${model?.family}), weights ${model?.weights?.version} ${digest}…, ${facts?.engine} on ${facts?.device}`,
      };
    } finally {
      client.close();
    }
  } catch (error) {
    if (error instanceof RpcError && error.status === "UNIMPLEMENTED") return undefined;
    return { ok: false, detail: advice(error) };
  }
}

/** What went wrong, and what to look at. */
function advice(error: unknown): string {
  if (!(error instanceof RpcError)) return firstLine(error);
  const hints: Record<string, string> = {
    UNAVAILABLE: "is it running there, and does it speak TLS while this call does not (or the reverse)?",
    DEADLINE_EXCEEDED: "no answer within 5 s: a firewall, or an overloaded machine?",
    UNAUTHENTICATED: "it wants a token: --token-file",
    PERMISSION_DENIED: "the token's role is not enough",
  };
  return `${error.status}: ${(error.cause as { details?: string } | undefined)?.details ?? error.message}; ${hints[error.status] ?? ""}`;
}

function firstLine(error: unknown): string {
  const line = ((error as Error).message ?? String(error)).split("\n")[0] ?? "";
  return line.length <= 300 ? line : `${line.slice(0, 299)}…`;
}

function version(path: string): string {
  try {
    return execFileSync(path, ["--version"], { encoding: "utf8", timeout: 5_000 }).trim();
  } catch {
    return "version unknown";
  }
}
