/** @file Tests of the table from errors to statuses, one row a test, over real sockets. */
import assert from "node:assert/strict";
import { type DescMessage, isMessage, type MessageShape } from "@bufbuild/protobuf";
import { Metadata, type ServiceError } from "@grpc/grpc-js";
import {
  ErrorInfoSchema,
  PreconditionFailureSchema,
  ResourceInfoSchema,
} from "../api/gen/google/rpc/error_details_pb.js";
import { codeTable, statusName } from "./codes.js";
import {
  CancelledError,
  DeadlineError,
  DrainingError,
  ForbiddenError,
  InvalidFieldError,
  NotReadyError,
  QueueFullError,
  UnauthenticatedError,
  WorkerCrashedError,
} from "./errors.js";
import { implement } from "./implement.js";
import { RpcError } from "./rpc-error.js";
import type { RunningServer } from "./server.js";
import { toOutgoingStatus } from "./status.js";
import { echoClient, echoHandlers, type Failures, startEcho } from "./testing/echo.js";
import { EchoService } from "./testing/gen/rlhf/testing/v1/echo_pb.js";
import { WorkerError } from "./worker-protocol.js";

/** An error as other rooms define theirs: any class with a `code`. */
class ForeignError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly more: object = {},
  ) {
    super(message);
    Object.assign(this, more);
  }
}

const failures: Failures = {
  INVALID_FIELD: () => new InvalidFieldError([{ field: "texts[3]", description: "is empty" }]),
  INPUT_TOO_LONG: () =>
    new InvalidFieldError([{ field: "texts[0]", description: "has 700 tokens" }], {
      reason: "INPUT_TOO_LONG",
      facts: { max: "512", actual: "700" },
    }),
  QUEUE_FULL: () => new QueueFullError("the queue is full", 250),
  NOT_READY: () => new NotReadyError("the model is loading", { retryAfterMs: 3000 }),
  DRAINING: () => new DrainingError(),
  WORKER_CRASHED: () => new WorkerCrashedError("the model worker ended"),
  VERSION_NOT_HELD: () =>
    new ForeignError("VERSION_NOT_HELD", "weights: version 7 is not held", { subject: "weights" }),
  WEIGHTS_CONFLICT: () => new ForeignError("WEIGHTS_CONFLICT", "weights: version 7 is being loaded"),
  UNKNOWN_MODEL: () => new ForeignError("UNKNOWN_MODEL", "model x is not served", { resource: "x" }),
  UNKNOWN_RUN: () => new ForeignError("UNKNOWN_RUN", "run y is not known", { resource: "y" }),
  UNAUTHENTICATED: () => new UnauthenticatedError("the token is not known"),
  FORBIDDEN: () => new ForbiddenError("this method needs the role admin"),
  WEIGHTS_CORRUPT: () => new ForeignError("WEIGHTS_CORRUPT", "weights v42: expected sha256 9f…, got 31…"),
  CHECKPOINT_CORRUPT: () => new ForeignError("CHECKPOINT_CORRUPT", "model.safetensors: header length 0"),
  DEADLINE: () => new DeadlineError(),
  CANCELLED: () => new CancelledError(),
  NON_FINITE: () => new ForeignError("NON_FINITE", "logits of row 3 hold NaN at /secret/model"),
  DEVICE_UNAVAILABLE: () => new ForeignError("DEVICE_UNAVAILABLE", "cuda: libcudart.so.12 is missing"),
  BUG: () => new TypeError("cannot read properties of undefined (reading 'secret')"),
  ENOENT: () => Object.assign(new Error("ENOENT: /secret/path"), { code: "ENOENT" }),
  WORKER_BUG: () => new WorkerError({ name: "TypeError", message: "secret", stack: "secret" }),
  WORKER_SAID: () => new WorkerError({ name: "Error", message: "logits row 1", code: "NON_FINITE" }),
};

describe("an error becomes a status", () => {
  let server: RunningServer;
  let client: ReturnType<typeof echoClient>;

  before(async () => {
    server = await startEcho({ services: [implement(EchoService, echoHandlers("echo", failures))] });
    client = echoClient(server.address, { retry: false });
  });
  after(async () => {
    client.close();
    await server.drain();
  });

  async function fail(code: string): Promise<RpcError> {
    const error = await client.echo({ fail: code }).catch((e: unknown) => e);
    assert.ok(error instanceof RpcError);
    assert.ok(error.requestId, "RequestInfo names the call");
    return error;
  }

  function detail<D extends DescMessage>(error: RpcError, schema: D): MessageShape<D> {
    const found = error.details.find((message) => isMessage(message, schema));
    assert.ok(found, `${schema.typeName} is missing`);
    return found as MessageShape<D>;
  }

  it("wrong or missing field: INVALID_ARGUMENT with BadRequest", async () => {
    const error = await fail("INVALID_FIELD");
    assert.deepEqual([error.status, error.code], ["INVALID_ARGUMENT", "INVALID_FIELD"]);
    assert.deepEqual(error.violations, [{ field: "texts[3]", description: "is empty" }]);
    assert.match(error.message, /texts\[3\]: is empty/);
    assert.deepEqual(detail(error, ErrorInfoSchema).domain, "rlhf-mesh");
  });

  it("too long with truncate=false: INVALID_ARGUMENT with the finer reason and its facts", async () => {
    const error = await fail("INPUT_TOO_LONG");
    assert.deepEqual(
      [error.status, error.code, error.reason],
      ["INVALID_ARGUMENT", "INVALID_FIELD", "INPUT_TOO_LONG"],
    );
    assert.deepEqual(error.facts, { max: "512", actual: "700" });
  });

  it("queue full: RESOURCE_EXHAUSTED with RetryInfo and pushback", async () => {
    const error = await fail("QUEUE_FULL");
    assert.deepEqual([error.status, error.code], ["RESOURCE_EXHAUSTED", "QUEUE_FULL"]);
    assert.deepEqual([error.retryDelayMs, error.pushbackMs], [250, 250]);
  });

  for (const [code, ms] of Object.entries({ NOT_READY: 3000, DRAINING: 1000, WORKER_CRASHED: 1000 })) {
    it(`${code}: UNAVAILABLE with RetryInfo`, async () => {
      const error = await fail(code);
      assert.deepEqual([error.status, error.code, error.retryDelayMs], ["UNAVAILABLE", code, ms]);
    });
  }

  it("version not held: FAILED_PRECONDITION with PreconditionFailure", async () => {
    const error = await fail("VERSION_NOT_HELD");
    assert.deepEqual([error.status, error.code], ["FAILED_PRECONDITION", "VERSION_NOT_HELD"]);
    const [violation] = detail(error, PreconditionFailureSchema).violations;
    assert.deepEqual([violation?.type, violation?.subject], ["VERSION_NOT_HELD", "weights"]);
  });

  it("concurrent weight change: ABORTED", async () => {
    const error = await fail("WEIGHTS_CONFLICT");
    assert.deepEqual([error.status, error.code], ["ABORTED", "WEIGHTS_CONFLICT"]);
  });

  for (const [code, type, name] of [
    ["UNKNOWN_MODEL", "model", "x"],
    ["UNKNOWN_RUN", "run", "y"],
  ] as const) {
    it(`${code}: NOT_FOUND with ResourceInfo`, async () => {
      const error = await fail(code);
      assert.deepEqual([error.status, error.code], ["NOT_FOUND", code]);
      const { resourceType, resourceName } = detail(error, ResourceInfoSchema);
      assert.deepEqual([resourceType, resourceName], [type, name]);
    });
  }

  for (const [code, status] of [
    ["UNAUTHENTICATED", "UNAUTHENTICATED"],
    ["FORBIDDEN", "PERMISSION_DENIED"],
    ["WEIGHTS_CORRUPT", "DATA_LOSS"],
    ["CHECKPOINT_CORRUPT", "DATA_LOSS"],
    ["DEADLINE", "DEADLINE_EXCEEDED"],
    ["CANCELLED", "CANCELLED"],
    ["DEVICE_UNAVAILABLE", "FAILED_PRECONDITION"],
  ] as const) {
    it(`${code}: ${status}`, async () => {
      const error = await fail(code);
      assert.deepEqual([error.status, error.code, error.reason], [status, code, code]);
    });
  }

  for (const code of ["NON_FINITE", "BUG", "ENOENT", "WORKER_BUG", "WORKER_SAID"]) {
    it(`${code}: INTERNAL, and nothing of it leaks`, async () => {
      const error = await fail(code);
      assert.deepEqual([error.status, error.code, error.reason], ["INTERNAL", "INTERNAL", "INTERNAL"]);
      const said =
        error.message + JSON.stringify(error.details, (_, v) => (typeof v === "bigint" ? String(v) : v));
      assert.doesNotMatch(said, /secret|NaN|row|undefined/);
    });
  }

  it("every code of the table has a status that gRPC defines", () => {
    for (const [code, rule] of Object.entries(codeTable))
      assert.notEqual(statusName(rule.status), "UNKNOWN", code);
  });

  it("passes on what a server below us says about time and load, but not what it says about our request", () => {
    const below = (code: number) =>
      new RpcError(
        Object.assign(new Error("x"), { code, details: "x", metadata: new Metadata() }) as ServiceError,
        "/a.B/C",
        "h:1",
      );
    const seen = [3, 5, 7, 16, 13, 14, 8, 4, 1].map((code) =>
      statusName(toOutgoingStatus(below(code)).status.code),
    );
    assert.deepEqual(seen.slice(0, 5), ["INTERNAL", "INTERNAL", "INTERNAL", "INTERNAL", "INTERNAL"]);
    assert.deepEqual(seen.slice(5), ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED"]);
  });
});
