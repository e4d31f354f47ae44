/** @file One client span and one duration for each call, retries included. Names are OpenTelemetry's stable RPC ones. */
import type { DescMethod } from "@bufbuild/protobuf";
import { type Context, type Span, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import {
  ATTR_ERROR_TYPE,
  ATTR_RPC_METHOD,
  ATTR_RPC_STATUS_CODE,
  ATTR_RPC_SYSTEM_NAME,
  ATTR_SERVER_ADDRESS,
  ATTR_SERVER_PORT,
  METRIC_RPC_CLIENT_CALL_DURATION,
} from "@opentelemetry/semantic-conventions";
import { counter, histogram } from "../telemetry/instruments.js";
import { SCOPE } from "../telemetry/tracing.js";
import { RpcError } from "./rpc-error.js";

const durations = histogram(METRIC_RPC_CLIENT_CALL_DURATION);
const retries = counter("rlhf.rpc.client.retries");

/** One call as telemetry sees it. */
export interface ObservedClientCall {
  /** Context with the call's span, to be sent along. */
  readonly context: Context;
  /** Address of the newest send. */
  readonly address: string;
  /** Notes to whom the call is sent. */
  sentTo(address: string): void;
  /** Notes that the call is sent again. */
  retried(reason: string): void;
  succeeded(): void;
  /** Notes the failure and returns it. */
  failed(error: unknown): unknown;
}

/** Starts the span of a call below `parent`. */
export function observeClientCall(method: DescMethod, parent: Context): ObservedClientCall {
  return new ClientCall(method, parent);
}

class ClientCall implements ObservedClientCall {
  readonly context: Context;
  address = "";
  private readonly span: Span;
  private readonly startedAt = performance.now();
  private readonly attributes: Record<string, string | number>;
  private ended = false;

  constructor(method: DescMethod, parent: Context) {
    const name = `${method.parent.typeName}/${method.name}`;
    this.attributes = { [ATTR_RPC_SYSTEM_NAME]: "grpc", [ATTR_RPC_METHOD]: name };
    const options = { kind: SpanKind.CLIENT, attributes: this.attributes };
    this.span = trace.getTracer(SCOPE).startSpan(name, options, parent);
    this.context = trace.setSpan(parent, this.span);
  }

  sentTo(address: string): void {
    this.address = address;
    const match = /^(?:\w+:)?\[?(.+?)\]?:(\d+)$/.exec(address);
    if (match)
      Object.assign(this.attributes, {
        [ATTR_SERVER_ADDRESS]: match[1],
        [ATTR_SERVER_PORT]: Number(match[2]),
      });
    this.span.setAttributes(this.attributes);
  }

  retried(reason: string): void {
    retries.add(1, { [ATTR_RPC_METHOD]: this.attributes[ATTR_RPC_METHOD], "rlhf.retry.reason": reason });
    this.span.addEvent("retry", { "rlhf.retry.reason": reason, [ATTR_SERVER_ADDRESS]: this.address });
  }

  succeeded(): void {
    this.end({ [ATTR_RPC_STATUS_CODE]: "OK" });
  }

  failed(error: unknown): unknown {
    const name = error instanceof RpcError ? error.status : "UNKNOWN";
    if (!this.ended)
      this.span.setStatus({ code: SpanStatusCode.ERROR, message: String((error as Error)?.message) });
    this.end({ [ATTR_RPC_STATUS_CODE]: name, [ATTR_ERROR_TYPE]: name });
    return error;
  }

  private end(outcome: Record<string, string>): void {
    if (this.ended) return;
    this.ended = true;
    durations.record((performance.now() - this.startedAt) / 1000, { ...this.attributes, ...outcome });
    this.span.setAttributes(outcome);
    this.span.end();
  }
}
