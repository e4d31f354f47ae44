/**
 * @file gRPC calls of prepared bytes over node:http2. Costs little per call, so that a load generator leaves the machine to the server,
 * and tells every end of a call apart, also those that a gRPC library would call UNAVAILABLE.
 */
import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { decodeDetails } from "../../lib/rpc/status-details.js";

/** How a call ended. */
export interface WireOutcome {
  /** gRPC status by number; undefined if the stream ended without one. */
  readonly status: number | undefined;
  /** ErrorInfo.reason of a failure. */
  readonly reason: string | undefined;
  /** grpc-message of a failure; or how the stream ended without a status. */
  readonly text: string;
  /** Bytes of the messages received, frames and all, where the call asked to keep them. */
  readonly data: Buffer | undefined;
  /** Whether the server answered with anything, headers included. */
  readonly answered: boolean;
  readonly ms: number;
}

/** How one call is made. */
export interface WireCall {
  readonly path: string;
  /** What is sent, frames and all; `frameOf` makes one of a message. */
  readonly body: Buffer;
  /** As grpc-timeout; undefined sends none. */
  readonly deadlineMs?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly keepData?: boolean;
  /** Resets the stream with CANCEL. */
  readonly signal?: AbortSignal;
  /** Called with each chunk of data. */
  readonly onData?: (chunk: Buffer) => void;
}

/** Time after the deadline at which a call counts as hung. */
const HANG_MS = 15_000;
/** Streams of one connection; a server takes 256. */
const MAX_STREAMS = 250;

/** A length-prefixed message. */
export function frameOf(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(5 + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

/** Connections to one server. */
export class GrpcWire {
  readonly #sessions: ClientHttp2Session[] = [];
  readonly #streams = new Map<ClientHttp2Session, number>();

  private constructor(readonly address: string) {}

  /** Connects. Rejects where the server can't be reached. */
  static async connect(address: string, connections = 1): Promise<GrpcWire> {
    const wire = new GrpcWire(address);
    await Promise.all(
      Array.from({ length: connections }, async () => {
        const session = connect(`http://${address}`);
        session.on("error", () => {}); // its streams say so
        await once(session, "connect");
        session.setMaxListeners(0);
        wire.#sessions.push(session);
        wire.#streams.set(session, 0);
      }),
    );
    return wire;
  }

  /** Calls that are under way. */
  get inFlight(): number {
    return [...this.#streams.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Connections that take calls. */
  get open(): number {
    return this.#sessions.filter((session) => !session.closed && !session.destroyed).length;
  }

  /** Makes a call; resolves however it ends. */
  call({ path, body, deadlineMs, headers, keepData, signal, onData }: WireCall): Promise<WireOutcome> {
    const started = performance.now();
    const session = this.#least();
    return new Promise((resolve) => {
      let status: number | undefined;
      let details: Buffer | undefined;
      let text = "";
      let answered = false;
      const kept: Buffer[] = [];
      const settle = (how: string) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", cancel);
        if (session) this.#streams.set(session, (this.#streams.get(session) ?? 1) - 1);
        const reason = status && details ? decodeDetails(details).reason : undefined;
        const data = keepData ? Buffer.concat(kept) : undefined;
        const said = status === undefined ? how : text;
        resolve({ status, reason, text: said, data, answered, ms: performance.now() - started });
      };
      let timer: NodeJS.Timeout | undefined;
      let stream: ClientHttp2Stream | undefined;
      const cancel = () => stream?.close(constants.NGHTTP2_CANCEL);
      if (!session) return settle("not sent: no connection takes calls");
      this.#streams.set(session, (this.#streams.get(session) ?? 0) + 1);
      try {
        stream = session.request({
          ":method": "POST",
          ":path": path,
          "content-type": "application/grpc",
          te: "trailers",
          ...(deadlineMs !== undefined && { "grpc-timeout": `${Math.max(1, Math.round(deadlineMs))}m` }),
          ...headers,
        });
      } catch (error) {
        return settle(`not sent: ${(error as Error).message}`);
      }
      const note = (fields: Record<string, unknown>) => {
        answered = true;
        const http = fields[":status"];
        if (http !== undefined && http !== 200) text = `HTTP ${http}`;
        if (fields["grpc-status"] === undefined) return;
        status = Number(fields["grpc-status"]);
        text = decodeURIComponent(String(fields["grpc-message"] ?? "").replace(/%(?![0-9a-f]{2})/gi, "%25"));
        const bytes = fields["grpc-status-details-bin"];
        if (bytes !== undefined) details = Buffer.from(String(bytes), "base64");
      };
      stream.on("response", note);
      stream.on("trailers", note);
      stream.on("data", (chunk: Buffer) => {
        if (keepData) kept.push(chunk);
        onData?.(chunk);
      });
      stream.on("error", (error) => {
        text ||= error.message;
      });
      stream.on("close", () => settle(text || `reset ${stream?.rstCode}`));
      timer = setTimeout(
        () => {
          text = `hung for ${Math.round(performance.now() - started)} ms`;
          stream?.close(constants.NGHTTP2_CANCEL);
        },
        (deadlineMs ?? 60_000) + HANG_MS,
      );
      if (signal?.aborted) cancel();
      else signal?.addEventListener("abort", cancel, { once: true });
      stream.end(body);
    });
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
  }

  #least(): ClientHttp2Session | undefined {
    let best: ClientHttp2Session | undefined;
    let least = MAX_STREAMS;
    for (const session of this.#sessions) {
      const count = this.#streams.get(session) ?? 0;
      if (session.closed || session.destroyed || count >= least) continue;
      best = session;
      least = count;
    }
    return best;
  }
}
