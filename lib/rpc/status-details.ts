/**
 * @file `grpc-status-details-bin`: google.rpc.Status with its details, to and from bytes.
 * The trailer stays below 4 KiB, since proxies and clients drop large header lists.
 */
import {
  create,
  createRegistry,
  type DescMessage,
  isMessage,
  type Message,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type Any, anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import {
  BadRequestSchema,
  DebugInfoSchema,
  ErrorInfoSchema,
  HelpSchema,
  LocalizedMessageSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RequestInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "../api/gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "../api/gen/google/rpc/status_pb.js";
import { asBuffer, decodeMessage } from "../api/index.js";
import type { Violation } from "./errors.js";

/** Metadata key of the serialized google.rpc.Status. */
export const detailsKey = "grpc-status-details-bin";
/** Domain of our ErrorInfo details. */
export const errorDomain = "rlhf-mesh";

const maxBytes = 4096;
const maxViolations = 20;
const maxFieldChars = 128;
const maxTextChars = 256;

/** What goes into the details. */
export interface Details {
  /** gRPC status number. */
  code: number;
  /** Same text as the call's status message. */
  message: string;
  /** ErrorInfo.reason. */
  reason: string;
  /** ErrorInfo.metadata. */
  facts?: Record<string, string>;
  /** BadRequest.field_violations; the first 20 that fit are sent. */
  violations?: Violation[];
  /** RetryInfo.retry_delay, in milliseconds. */
  retryAfterMs?: number;
  /** PreconditionFailure: what was required of which subject. */
  precondition?: { type: string; subject: string };
  /** ResourceInfo: what kind of thing was not found, and its name. */
  resource?: { type: string; name: string };
  /** RequestInfo.request_id. */
  requestId?: string;
}

/** Serializes the details, leaving out last violations first until they fit into 4 KiB. */
export function encodeDetails(details: Details): Buffer {
  let violations = (details.violations ?? []).slice(0, maxViolations);
  for (;;) {
    const bytes = toBinary(StatusSchema, statusMessage(details, violations));
    if (bytes.byteLength <= maxBytes || violations.length === 0) return asBuffer(bytes);
    violations = violations.slice(0, -1);
  }
}

function statusMessage(details: Details, violations: Violation[]): Status {
  const any: Any[] = [];
  const add = <D extends DescMessage>(schema: D, init: MessageInitShape<D>) => {
    any.push(anyPack(schema, create(schema, init)));
  };
  if (violations.length > 0) {
    const fieldViolations = violations.map(({ field, description }) => ({
      field: shorten(field, maxFieldChars),
      description: shorten(description, maxTextChars),
    }));
    add(BadRequestSchema, { fieldViolations });
  }
  if (details.precondition) {
    const { type, subject } = details.precondition;
    add(PreconditionFailureSchema, {
      violations: [
        {
          type,
          subject: shorten(subject, maxFieldChars),
          description: shorten(details.message, maxTextChars),
        },
      ],
    });
  }
  if (details.resource) {
    add(ResourceInfoSchema, {
      resourceType: details.resource.type,
      resourceName: shorten(details.resource.name, maxFieldChars),
      description: shorten(details.message, maxTextChars),
    });
  }
  if (details.retryAfterMs !== undefined) {
    const ms = Math.max(0, Math.round(details.retryAfterMs));
    add(RetryInfoSchema, {
      retryDelay: { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 },
    });
  }
  const facts = Object.entries(details.facts ?? {}).slice(0, 8);
  add(ErrorInfoSchema, {
    reason: details.reason,
    domain: errorDomain,
    metadata: Object.fromEntries(facts.map(([key, value]) => [key, shorten(value, maxFieldChars)])),
  });
  if (details.requestId) add(RequestInfoSchema, { requestId: details.requestId });
  return create(StatusSchema, { code: details.code, message: details.message, details: any });
}

/**
 * Text that is safe in a header: valid Unicode (percent-encoding throws on half a surrogate pair) and at most
 * `maxChars` UTF-16 units, its end then replaced by an ellipsis.
 */
export function shorten(text: string, maxChars: number): string {
  const cut = text.length <= maxChars ? text : `${text.slice(0, maxChars - 1)}…`;
  return cut.replace(/\p{Surrogate}/gu, "\u{fffd}"); // with /u only halves match, never whole pairs
}

const registry = createRegistry(
  BadRequestSchema,
  DebugInfoSchema,
  ErrorInfoSchema,
  HelpSchema,
  LocalizedMessageSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RequestInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
);

/** Details of a failed call, as a client reads them. */
export interface DecodedDetails {
  violations: Violation[];
  /** ErrorInfo, of whatever domain. */
  reason?: string;
  domain?: string;
  facts: Record<string, string>;
  retryDelayMs?: number;
  requestId?: string;
  /** Every detail of a standard type, decoded, in order. */
  all: Message[];
}

/** Reads serialized details. Malformed bytes read as no details: a broken server must not hide its own status. */
export function decodeDetails(bytes: Uint8Array | undefined): DecodedDetails {
  const decoded: DecodedDetails = { violations: [], facts: {}, all: [] };
  if (!bytes) return decoded;
  let status: Status;
  try {
    status = decodeMessage(StatusSchema, bytes);
  } catch {
    return decoded;
  }
  for (const any of status.details) {
    let detail: Message | undefined;
    try {
      detail = anyUnpack(any, registry);
    } catch {
      continue;
    }
    if (detail) readDetail(detail, decoded);
  }
  return decoded;
}

function readDetail(detail: Message, into: DecodedDetails): void {
  into.all.push(detail);
  if (isMessage(detail, BadRequestSchema)) {
    into.violations.push(...detail.fieldViolations.map(({ field, description }) => ({ field, description })));
  } else if (isMessage(detail, ErrorInfoSchema)) {
    into.reason = detail.reason;
    into.domain = detail.domain;
    into.facts = detail.metadata;
  } else if (isMessage(detail, RetryInfoSchema) && detail.retryDelay) {
    into.retryDelayMs = Number(detail.retryDelay.seconds) * 1000 + detail.retryDelay.nanos / 1e6;
  } else if (isMessage(detail, RequestInfoSchema)) {
    into.requestId = detail.requestId;
  }
}
