/** @file The echo service, its server and its client, for the tests of the kit. */
import { setTimeout as sleep } from "node:timers/promises";
import { isSpanContextValid, trace } from "@opentelemetry/api";
import { descriptorSet as ownSet } from "../../api/gen/descriptors.js";
import { DescriptorIndex } from "../../api/index.js";
import { type Client, type ClientOptions, createClient } from "../client.js";
import { type CallContext, type Handlers, implement } from "../implement.js";
import { silentLog } from "../log.js";
import { type RunningServer, type ServerOptions, startServer } from "../server.js";
import { descriptorSet as echoSet } from "./gen/descriptors.js";
import { EchoAdminService, EchoService, Mood } from "./gen/rlhf/testing/v1/echo_pb.js";

/** Handlers of the echo service. */
export type EchoHandlers = Handlers<{
  [K in keyof typeof EchoService.method]: (typeof EchoService.method)[K];
}>;

/** Errors that a request can ask for, beyond what codes.ts names: a test adds its own. */
export type Failures = Record<string, () => unknown>;

/** Handlers that do as they are told. `seen` gets the context of each unary call. */
export function echoHandlers(
  server: string,
  failures: Failures = {},
  seen: CallContext[] = [],
): EchoHandlers {
  const fail = (code: string) => {
    if (code !== "")
      throw failures[code]?.() ?? Object.assign(new Error(`asked to fail with ${code}`), { code });
  };
  return {
    async echo(request, ctx) {
      seen.push(ctx);
      if (request.delayMs > 0) await sleep(request.delayMs, undefined, { signal: ctx.signal });
      if (request.mood === Mood.STUCK)
        await new Promise((_, reject) => ctx.signal.addEventListener("abort", reject));
      fail(request.fail);
      const { text, data, mood } = request;
      const span = trace.getSpanContext(ctx.traceContext);
      const traceId = span && isSpanContextValid(span) ? span.traceId : "";
      const remainingMs = ctx.deadline === undefined ? undefined : ctx.deadline - Date.now();
      return { text, data, mood, server, traceId, remainingMs };
    },
    async *echoMany({ text, count, delayMs, fail: code }, ctx) {
      for (let index = 0; index < count; index++) {
        if (delayMs > 0) await sleep(delayMs, undefined, { signal: ctx.signal });
        yield { text, index };
      }
      fail(code);
    },
    async echoJoin(requests) {
      const texts: string[] = [];
      for await (const { text } of requests) texts.push(text);
      return { text: texts.join(",") };
    },
    async *echoEach(requests) {
      for await (const { text } of requests) yield { text };
    },
  };
}

/** Descriptors of the echo service and of everything else. */
export const testDescriptors = new DescriptorIndex(echoSet, ownSet);

/** An echo server on a free port of loopback, its address and its end. */
export async function startEcho(
  options: Partial<ServerOptions> & { handlers?: Partial<EchoHandlers> } = {},
): Promise<RunningServer> {
  const { handlers, ...rest } = options;
  const name = rest.name ?? "echo";
  return startServer({
    name,
    services: [implement(EchoService, { ...echoHandlers(name), ...handlers })],
    adminServices: [implement(EchoAdminService, { poke: () => ({}) })],
    listen: "127.0.0.1:0",
    log: silentLog,
    descriptors: testDescriptors,
    ...rest,
  });
}

/** A client of the echo service. */
export function echoClient(
  addresses: string | string[],
  options: Partial<ClientOptions> = {},
): Client<typeof EchoService.method> {
  return createClient(EchoService, addresses, { deadlineMs: 10_000, ...options });
}
