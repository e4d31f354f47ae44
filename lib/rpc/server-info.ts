/** @file What GetInfo of every service says about its server: build, device, limits, defaults. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServerInfoSchema } from "../api/gen/rlhf/types/v1/types_pb.js";
import { packageRoot } from "../config/package-root.js";
import type { ServerLimits } from "./limits.js";

/** What a service adds to the kit's own facts. */
export interface ServerFacts {
  /** "cpu", "cuda" or "webgpu". */
  device: string;
  /** Engine that computes: "onnxruntime 1.30.0 (koffi)". */
  engine: string;
  /** The kit's limits, as `RunningServer.limits` has them. */
  limits: ServerLimits;
  /** The service's own limits by name: `{ max_items: 256 }`. */
  serviceLimits?: Record<string, number>;
  /** Name of this instance. Default: host and process id. */
  instance?: string | undefined;
}

/** The `server` field of a GetInfoResponse. */
export function serverInfo(facts: ServerFacts): MessageInitShape<typeof ServerInfoSchema> {
  const { device, engine, limits, serviceLimits = {} } = facts;
  const all: Record<string, number> = {
    max_receive_bytes: limits.maxReceiveBytes,
    max_send_bytes: limits.maxSendBytes,
    max_concurrent_streams: limits.maxConcurrentStreams,
    max_metadata_bytes: limits.maxMetadataBytes,
    ...serviceLimits,
  };
  for (const [method, ms] of Object.entries(limits.methodDeadlinesMs))
    all[`default_deadline_ms.${method}`] = ms;
  return {
    buildVersion: buildVersion(),
    device,
    engine,
    instance: facts.instance ?? instanceName(),
    defaultDeadlineMs: BigInt(limits.defaultDeadlineMs),
    limits: Object.fromEntries(Object.entries(all).map(([name, value]) => [name, BigInt(Math.round(value))])),
  };
}

/** A name for this process, unique among the replicas of a service. */
export function instanceName(): string {
  return `${hostname()}:${process.pid}`;
}

let version: string | undefined;

/** Version of rlhf-mesh, as in package.json. */
export function buildVersion(): string {
  version ??= (JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string })
    .version;
  return version;
}
