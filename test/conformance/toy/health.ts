/** @file grpc.health.v1 of a toy server: everything serves from the beginning. */
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import {
  type Health,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../../lib/api/gen/grpc/health/v1/health_pb.js";
import { Refusal } from "./refusal.js";
import type { Methods } from "./server.js";

/** Methods of Health, answering for these services and "". */
export function healthMethods(statuses: Map<string, Serving>): Methods<typeof Health.method> {
  return {
    check: async ({ service }) => {
      const known = statuses.get(service);
      if (known === undefined) throw new Refusal(status.NOT_FOUND, "unknown service", "UNKNOWN_SERVICE");
      return create(HealthCheckResponseSchema, { status: known });
    },
    async *watch({ service }, { signal }) {
      yield create(HealthCheckResponseSchema, { status: statuses.get(service) ?? Serving.SERVICE_UNKNOWN });
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
    list: async () =>
      create(HealthListResponseSchema, {
        statuses: Object.fromEntries([...statuses].map(([key, value]) => [key, { status: value }])),
      }),
  };
}
