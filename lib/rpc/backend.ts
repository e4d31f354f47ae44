/**
 * @file One server as a client sees it: its channel, whether it can be reached, and whether it says that it serves.
 * grpc-js has no health checking on the client side, so each backend watches grpc.health.v1 itself.
 */
import { create } from "@bufbuild/protobuf";
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientReadableStream,
  connectivityState,
  Metadata,
  status,
} from "@grpc/grpc-js";
import {
  Health,
  HealthCheckRequestSchema,
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as Serving,
} from "../api/gen/grpc/health/v1/health_pb.js";
import { toGrpcMethod } from "../api/index.js";
import { backoffMs } from "./retry.js";

/** What a backend needs. */
export interface BackendOptions {
  credentials: ChannelCredentials;
  channel: ChannelOptions;
  /** Service whose health is watched; undefined watches none. */
  watch: string | undefined;
}

const watchMethod = toGrpcMethod(Health.method.watch);

/** One address with one channel. */
export class Backend {
  readonly client: Client;
  private serving: boolean | undefined;
  private stream: ClientReadableStream<unknown> | undefined;
  private retryTimer: NodeJS.Timeout | undefined;
  private failures = 0;
  private closed = false;

  constructor(
    readonly address: string,
    options: BackendOptions,
  ) {
    this.client = new Client(address, options.credentials, options.channel);
    if (options.watch !== undefined) this.watchHealth(options.watch);
  }

  /** Worth sending to: not known to be unhealthy or unreachable. */
  get usable(): boolean {
    return this.serving !== false && this.state !== "TRANSIENT_FAILURE";
  }

  /** What the server last said about its health; undefined if it said nothing. */
  get healthy(): boolean | undefined {
    return this.serving;
  }

  /** State of the channel: IDLE, CONNECTING, READY, TRANSIENT_FAILURE or SHUTDOWN. */
  get state(): string {
    return connectivityState[this.client.getChannel().getConnectivityState(false)] ?? "IDLE";
  }

  /** Ends the watch and closes the channel; calls that run are not cut. */
  close(): void {
    this.closed = true;
    clearTimeout(this.retryTimer);
    this.stream?.cancel();
    this.client.close();
  }

  private watchHealth(service: string): void {
    const request = create(HealthCheckRequestSchema, { service });
    const { path, requestSerialize, responseDeserialize } = watchMethod;
    const stream = this.client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      new Metadata({ waitForReady: true }),
    );
    this.stream = stream;
    stream.on("data", (response: HealthCheckResponse) => {
      this.failures = 0;
      this.serving = response.status === Serving.SERVING;
    });
    stream.on("error", () => {}); // the status tells the same, and also of an orderly end
    stream.on("status", ({ code }) => {
      if (this.closed) return;
      if (code === status.UNIMPLEMENTED) {
        this.serving = undefined; // a server without health is judged by its connection alone
        return;
      }
      // "not serving" stays true of a server that then went away; "serving" does not
      if (this.serving) this.serving = undefined;
      this.watchAgain(service);
    });
  }

  private watchAgain(service: string): void {
    clearTimeout(this.retryTimer);
    this.failures++;
    const delay = backoffMs(this.failures, { initialMs: 100, maxMs: 5000 });
    this.retryTimer = setTimeout(() => this.watchHealth(service), delay).unref();
  }
}
