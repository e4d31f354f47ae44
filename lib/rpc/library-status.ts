/**
 * @file Statuses that grpc-js sends on its own, brought into our table: with details, and with the code that tells the
 * caller what to do. grpc-js calls malformed requests INTERNAL, which would read as a fault of the server.
 */
import { type Metadata, status } from "@grpc/grpc-js";
import { codeTable, type ErrorCode } from "./codes.js";
import { type ErrorFacts, KitError } from "./errors.js";
import { toOutgoingStatus } from "./status.js";
import { detailsKey } from "./status-details.js";

/** A status as grpc-js passes it. */
export interface SentStatus {
  code: number;
  details: string;
  metadata: Metadata | null;
}

/** Adds details to a failure that has none yet; OK and detailed statuses come back as they are. */
export function detailLibraryStatus(sent: SentStatus, requestId?: string): SentStatus {
  if (sent.code === status.OK || (sent.metadata?.get(detailsKey).length ?? 0) > 0) return sent;
  const { code, message, ...facts } = translate(sent);
  return toOutgoingStatus(new KitError(code, message, facts), requestId).status;
}

function translate({ code, details }: SentStatus): { code: ErrorCode; message: string } & ErrorFacts {
  if (code === status.RESOURCE_EXHAUSTED) {
    const sent = details.startsWith("Sent message");
    return { code: sent ? "RESPONSE_TOO_LARGE" : "MESSAGE_TOO_LARGE", message: details };
  }
  if (code === status.INTERNAL && /^(Invalid grpc-timeout|Failed to decompress)/.test(details)) {
    return { code: "UNDECODABLE", message: details };
  }
  if (code === status.DEADLINE_EXCEEDED) return { code: "DEADLINE", message: "the deadline passed" };
  if (code === status.CANCELLED) return { code: "CANCELLED", message: details };
  if (code === status.UNIMPLEMENTED) return { code: "UNIMPLEMENTED", message: details };
  const fitting = Object.entries(codeTable).find(([, rule]) => rule.status === code)?.[0];
  return { code: (fitting as ErrorCode | undefined) ?? "INTERNAL", message: details };
}
