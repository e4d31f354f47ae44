/**
 * @file Server interceptor: one span, one duration and one log line a call, also for calls that never reach a handler
 * (refused by the guard, too large, undecodable, too late). Names follow OpenTelemetry's stable RPC conventions.
 */
import { type Metadata, ServerInterceptingCall, type ServerInterceptor, status } from "@grpc/grpc-js";
import { type Context, context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import {
  ATTR_ERROR_TYPE,
  ATTR_RPC_METHOD,
  ATTR_RPC_STATUS_CODE,
  ATTR_RPC_SYSTEM_NAME,
  METRIC_RPC_SERVER_CALL_DURATION,
} from "@opentelemetry/semantic-conventions";
import { histogram, upDownCounter } from "../telemetry/instruments.js";
import { extractHeaders, SCOPE } from "../telemetry/tracing.js";
import { type CallState, requestIdOf, setCallState } from "./call-state.js";
import { statusName } from "./codes.js";
import type { InFlight } from "./in-flight.js";
import { detailLibraryStatus, type SentStatus } from "./library-status.js";
import type { Logger } from "./log.js";

const durations = histogram(METRIC_RPC_SERVER_CALL_DURATION);
const active = upDownCounter("rlhf.requests.active");

/** What the observer needs to know of the server. */
export interface ObserveOptions {
  log: Logger;
  inFlight: InFlight;
  /** Methods that live until the server drains, by path. */
  lasting: ReadonlySet<string>;
  /** Methods that are counted but not traced or logged, by path: probes would drown the rest. */
  quiet: ReadonlySet<string>;
}

/** Server errors, as the conventions say: other statuses are the caller's doing. */
const serverErrors = new Set<number>([
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.UNIMPLEMENTED,
  status.INTERNAL,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

/**
 * A deadline travels as the time that is left and counts here from the call's arrival, so the caller's own ends earlier by as long as the
 * call was on its way. Who goes away this little before the end, in milliseconds, went because of it.
 */
const ARRIVAL_MS = 100;

/** The interceptor; it must be the first of the list, where it sees what grpc-js itself sends. */
export function observeCalls(options: ObserveOptions): ServerInterceptor {
  return (method, call) => {
    let observed: ObservedCall | undefined;
    // grpc-js ends calls itself (size, encoding, deadline) through the same function, so this sees every status.
    const send = call.sendStatus.bind(call);
    let ended = false;
    call.sendStatus = (sent) => {
      ended = true;
      const detailed = detailLibraryStatus(sent as SentStatus, observed?.state.requestId);
      observed?.finish(detailed.code, detailed.details);
      send(detailed);
    };
    // A message that a stream still had in its buffer when grpc-js ended the call for its deadline would be written after the end,
    // and that breaks the HTTP/2 stream before its trailers are sent: the caller would wait for ever.
    const sendMessage = call.sendMessage.bind(call);
    call.sendMessage = (message, sent) => {
      if (ended) sent();
      else sendMessage(message, sent);
    };
    return new ServerInterceptingCall(call, {
      start: (next) => {
        next({
          onReceiveMetadata: (metadata, forward) => {
            observed = new ObservedCall(method.path, metadata, call.getPeer(), options);
            forward(metadata);
          },
          onCancel: () => {
            const late = Number(call.getDeadline()) - ARRIVAL_MS <= Date.now();
            observed?.finish(late ? status.DEADLINE_EXCEEDED : status.CANCELLED, "the caller went away");
          },
        });
      },
    });
  };
}

class ObservedCall {
  readonly state: CallState;
  private readonly startedAt = performance.now();
  private readonly attributes: Record<string, string>;
  /** What names the call in the log. */
  private readonly names: { method: string; request_id: string; peer: string };
  private finished = false;

  constructor(
    path: string,
    metadata: Metadata,
    peer: string,
    private readonly options: ObserveOptions,
  ) {
    const method = path.slice(1);
    const requestId = requestIdOf(metadata);
    this.attributes = { [ATTR_RPC_SYSTEM_NAME]: "grpc", [ATTR_RPC_METHOD]: method };
    this.names = { method, request_id: requestId, peer };
    const { names } = this;
    let log: Logger | undefined;
    this.state = {
      method,
      requestId,
      peer,
      traceContext: this.traceContext(path, metadata),
      // made when it is first wanted: few calls say anything but their end
      get log() {
        log ??= options.log.child(names);
        return log;
      },
    };
    setCallState(metadata, this.state);
    options.inFlight.add(this.state, options.lasting.has(path));
    active.add(1, { [ATTR_RPC_METHOD]: method });
  }

  private traceContext(path: string, metadata: Metadata): Context {
    const header = (name: string) => metadata.get(name).map(String)[0];
    const parent = extractHeaders({ traceparent: header("traceparent"), tracestate: header("tracestate") });
    if (this.options.quiet.has(path)) return parent;
    const options = { kind: SpanKind.SERVER, attributes: this.attributes };
    const span = trace.getTracer(SCOPE).startSpan(path.slice(1), options, parent);
    return trace.setSpan(parent, span);
  }

  /** Notes the end of the call; only the first end counts, since `cancelled` also fires after success. */
  finish(code: number, text: string): void {
    if (this.finished) return;
    this.finished = true;
    const { state, options, attributes } = this;
    const name = statusName(code);
    const seconds = (performance.now() - this.startedAt) / 1000;
    options.inFlight.remove(state);
    active.add(-1, { [ATTR_RPC_METHOD]: state.method });
    const outcome = { [ATTR_RPC_STATUS_CODE]: name, ...(code !== status.OK && { [ATTR_ERROR_TYPE]: name }) };
    durations.record(seconds, { ...attributes, ...outcome });
    if (options.quiet.has(`/${state.method}`)) return;
    const span = trace.getSpan(state.traceContext);
    span?.setAttribute(ATTR_RPC_STATUS_CODE, name);
    if (serverErrors.has(code)) {
      span?.setAttribute(ATTR_ERROR_TYPE, name);
      span?.setStatus({ code: SpanStatusCode.ERROR, message: text });
    }
    span?.end();
    context.with(state.traceContext, () => {
      const facts = { ...this.names, status: name, ms: Math.round(seconds * 1e4) / 10 };
      if (code === status.OK) options.log.debug(facts, "call");
      else options.log.info({ ...facts, text }, "call");
    });
  }
}
