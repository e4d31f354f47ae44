/** @file Checks of refusals as such, the same for every service: details, bytes that are no message, methods that are not there. */
import { isMessage } from "@bufbuild/protobuf";
import type { ServiceError } from "@grpc/grpc-js";
import { ErrorInfoSchema } from "../../lib/api/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../lib/api/gen/google/rpc/status_pb.js";
import { decodeMessage } from "../../lib/api/index.js";
import { type Check, must } from "./check.js";
import { mustRefuse, type Target } from "./target.js";

/** Trailer of google.rpc.Status. */
const DETAILS = "grpc-status-details-bin";

/** Checks of errors. */
export const errorChecks: readonly Check<Target>[] = [
  {
    id: "errors/details",
    what: "a refusal carries google.rpc.Status with BadRequest and ErrorInfo, and says the same as the status",
    async run(target) {
      const error = await mustRefuse(
        target.send(target.subject.refused()),
        "a bad request",
        "INVALID_ARGUMENT",
      );
      must(error.details.length > 0, "no grpc-status-details-bin trailer, or one that cannot be decoded");
      must(error.violations.length > 0, "no BadRequest among the details");
      must(
        error.violations.every(({ field, description }) => field && description),
        "a violation has no field or no description",
      );
      const info = error.details.find((detail) => isMessage(detail, ErrorInfoSchema));
      must(Boolean(info?.reason && info.domain), "no ErrorInfo with reason and domain among the details");
      const { details: text, metadata } = error.cause as ServiceError;
      const { code, message } = decodeMessage(StatusSchema, metadata.get(DETAILS)[0] as Buffer);
      must(
        code === error.grpcCode && message === text,
        `google.rpc.Status says ${code} "${message}", the call's own status ${error.grpcCode} "${text}"`,
      );
    },
  },
  {
    id: "errors/garbage",
    what: "bytes that are no message are INVALID_ARGUMENT (or INTERNAL, as gRPC libraries have it), and harm nothing",
    async run(target) {
      const { status, reset } = await target.raw(target.subject.probe(), {
        message: Buffer.from([0xff, 0xff, 0xff]),
      });
      const seen = status ?? `none, but a reset with code ${reset}`;
      must(status === 3 || status === 13, `expected status 3 or 13, got ${seen}`);
      await target.send(target.subject.probe());
    },
  },
  {
    id: "errors/unknown-method",
    what: "a method that is not there is UNIMPLEMENTED",
    async run(target) {
      const path = `/${target.subject.desc.typeName}/NoSuchMethod`;
      const { status } = await target.raw(target.subject.probe(), { path });
      must(status === 12, `expected status 12 (UNIMPLEMENTED), got ${status ?? "none"}`);
    },
  },
];
