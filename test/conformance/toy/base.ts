/** @file What the toy servers of all three services have in common: health, reflection, limits, a queue, tokens, traces. */

import { randomBytes } from "node:crypto";
import { appendFileSync } from "node:fs";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { type Metadata, status } from "@grpc/grpc-js";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../../lib/api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../../lib/api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../../lib/api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { healthMethods } from "./health.js";
import { type Described, describeAll, reflectionMethods } from "./reflection.js";
import { type FieldViolation, Refusal } from "./refusal.js";
import { goodHabits, type Methods, service, type Toy, type ToyService } from "./server.js";
import { WorkQueue } from "./work-queue.js";

/** Digest of the toys' weights. */
export const DIGEST = "0123456789abcdef".repeat(4);

/** A toy server of any service, with what a mutation may change. */
export interface BaseToy extends Toy {
  readonly services: ToyService[];
  /** What GetInfo publishes. */
  limits: Record<string, number>;
  /** What is kept. */
  readonly kept: { metadataBytes: number; token: string | undefined; open: string[] };
  readonly queue: WorkQueue;
  readonly statuses: Map<string, Serving>;
  readonly health: Methods<typeof Health.method>;
  readonly described: Described;
  readonly reflection: Methods<typeof ServerReflection.method>;
  readonly alpha: Methods<typeof ServerReflection.method>;
  /** Which violations of a request count; all. */
  counts: (violation: FieldViolation) => boolean;
  /** Trace and parent of the span of a call. */
  traceOf: (metadata: Metadata) => { traceId: string; parentSpanId: string };
  /** File that spans are appended to. */
  traceFile?: string;
}

/** A toy server with one service of its own. */
export function baseToy<S extends GenServiceMethods>(
  desc: GenService<S>,
  methods: Methods<S>,
  limits: Record<string, number>,
): BaseToy {
  const habits = goodHabits();
  const statuses = new Map([
    ["", Serving.SERVING],
    [desc.typeName, Serving.SERVING],
  ]);
  const described = describeAll([desc.typeName, Health.typeName]);
  const toy: BaseToy = {
    habits,
    limits: { max_receive_bytes: habits.maxReceiveBytes, max_metadata_bytes: 8192, ...limits },
    kept: { metadataBytes: 8192, token: undefined, open: [Health.typeName] },
    queue: new WorkQueue(),
    statuses,
    health: healthMethods(statuses),
    described,
    reflection: reflectionMethods(described),
    alpha: reflectionMethods(described),
    services: [],
    counts: () => true,
    traceOf: continued,
  };
  toy.services.push(
    service(desc, methods),
    service(Health, toy.health),
    service(ServerReflection, toy.reflection),
    service(ServerReflectionAlpha, toy.alpha as never),
  );
  habits.admit = (metadata, name) => admit(toy, metadata, name);
  habits.ended = (metadata) => trace(toy, metadata);
  return toy;
}

/** Takes a service away. */
export function remove(toy: BaseToy, { typeName }: { typeName: string }): void {
  const at = toy.services.findIndex(({ desc }) => desc.typeName === typeName);
  toy.services.splice(at, 1);
}

/** ServerInfo of a toy. */
export function serverInfo({ limits }: BaseToy) {
  const published = Object.entries(limits).map(([name, value]) => [name, BigInt(value)]);
  return { buildVersion: "toy", limits: Object.fromEntries(published), defaultDeadlineMs: 60_000n };
}

function admit({ kept }: BaseToy, metadata: Metadata, name: string): void {
  const bytes = Object.entries(metadata.getMap()).reduce(
    (sum, [name, value]) => sum + name.length + value.length,
    0,
  );
  if (bytes > kept.metadataBytes) {
    throw new Refusal(status.RESOURCE_EXHAUSTED, `metadata has ${bytes} bytes`, "METADATA_TOO_LARGE");
  }
  if (kept.token === undefined || kept.open.includes(name)) return;
  if (metadata.get("authorization")[0] !== `Bearer ${kept.token}`) {
    throw new Refusal(status.UNAUTHENTICATED, "a token is missing or not known", "UNAUTHENTICATED");
  }
}

/** The caller's trace, or a new one. */
function continued(metadata: Metadata): { traceId: string; parentSpanId: string } {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-/.exec(String(metadata.get("traceparent")[0] ?? ""));
  return { traceId: match?.[1] ?? randomBytes(16).toString("hex"), parentSpanId: match?.[2] ?? "" };
}

function trace({ traceFile, traceOf }: BaseToy, metadata: Metadata): void {
  if (traceFile === undefined) return;
  const times = { startTimeUnixNano: "1", endTimeUnixNano: "2" };
  const span = {
    ...traceOf(metadata),
    spanId: randomBytes(8).toString("hex"),
    name: "call",
    kind: 2,
    ...times,
  };
  appendFileSync(traceFile, `${JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] })}\n`);
}
