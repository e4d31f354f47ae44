/** @file Mistakes that a server of any service can make, by the check that must catch them. */
import { setTimeout as pause } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { Metadata, status } from "@grpc/grpc-js";
import {
  Health,
  HealthCheckResponseSchema,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../../lib/api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../../lib/api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../../lib/api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import type { ModelInfo, ServerInfo } from "../../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { type BaseToy, remove } from "../toy/base.js";
import { Refusal } from "../toy/refusal.js";
import { refusalStatus } from "../toy/server.js";
import { after, type Mutants, mutation } from "./mutation.js";

/** What the toys of all services have. */
export interface AnyToy extends BaseToy {
  readonly methods: { getInfo: (...args: never[]) => Promise<{ model?: ModelInfo; server?: ServerInfo }> };
}

/** Mistakes in what every service has. */
export function commonMutants<T extends AnyToy>(names: {
  typeName: string;
  file: string;
  itemsLimit: string;
}): Mutants<T> {
  const { typeName, file, itemsLimit } = names;
  const info = (toy: T, change: (reply: { model?: ModelInfo; server?: ServerInfo }) => void) => {
    const { methods }: AnyToy = toy;
    after(methods, "getInfo", ((reply: { model?: ModelInfo; server?: ServerInfo }) => {
      change(reply);
      return reply;
    }) as never);
  };
  const described = (toy: T) => toy.described.files.get(file)!;
  return {
    "info/model": [
      mutation("the digest is shortened for display", /digest is "0123456789ab", not 64/, (toy) =>
        info(toy, ({ model }) => {
          model!.weights!.digest = model!.weights!.digest.slice(0, 12);
        }),
      ),
      mutation("the digest is upper case", /digest is "0123456789ABCDEF/, (toy) =>
        info(toy, ({ model }) => {
          model!.weights!.digest = model!.weights!.digest.toUpperCase();
        }),
      ),
      mutation("the model has no name", /model\.name is empty/, (toy) =>
        info(toy, ({ model }) => {
          model!.name = "";
        }),
      ),
      mutation("GetInfo was never written", /the server has no GetInfo/, (toy) => {
        toy.methods.getInfo = () =>
          Promise.reject(new Refusal(status.UNIMPLEMENTED, "not yet", "UNIMPLEMENTED"));
      }),
    ],
    "info/limits": [
      mutation("the number of items is not published", new RegExp(`has no ${itemsLimit}`), (toy) => {
        delete toy.limits[itemsLimit];
      }),
      mutation("the default deadline is not published", /default_deadline_ms is not set/, (toy) =>
        info(toy, ({ server }) => {
          server!.defaultDeadlineMs = 0n;
        }),
      ),
    ],
    "errors/details": [
      mutation("refusals have a text only", /no grpc-status-details-bin/, (toy) => {
        toy.habits.refuse = ({ code, message }) => ({ code, details: message });
      }),
      mutation("the violations are in the text only", /no BadRequest/, (toy) => {
        toy.habits.refuse = ({ code, message, reason }) => refusalStatus(new Refusal(code, message, reason));
      }),
      mutation("a violation has no field", /no field or no description/, (toy) => {
        toy.habits.refuse = ({ code, message, reason, violations }) =>
          refusalStatus(
            new Refusal(
              code,
              message,
              reason,
              violations.map((v) => ({ ...v, field: "" })),
            ),
          );
      }),
      mutation("ErrorInfo has no reason", /no ErrorInfo with reason/, (toy) => {
        toy.habits.refuse = ({ code, message, violations }) =>
          refusalStatus(new Refusal(code, message, "", violations));
      }),
      mutation(
        "the details say another code than the status",
        /google\.rpc\.Status says 2 .* own status 3/,
        (toy) => {
          toy.habits.refuse = ({ code, message, reason, violations }) => ({
            ...refusalStatus(new Refusal(status.UNKNOWN, message, reason, violations)),
            code,
          });
        },
      ),
      mutation(
        "an exception of the validation is UNKNOWN",
        /expected INVALID_ARGUMENT, got UNKNOWN/,
        (toy) => {
          toy.habits.refuse = ({ message }) => ({ code: status.UNKNOWN, details: message });
        },
      ),
    ],
    "errors/garbage": [
      mutation("what cannot be read counts as an empty message", /expected status 3 or 13, got 0/, (toy) => {
        lenient(toy);
        toy.counts = () => false;
      }),
      mutation("a failure to read is UNKNOWN", /expected status 3 or 13, got 2/, (toy) => {
        lenient(toy);
        toy.habits.refuse = ({ message }) => ({ code: status.UNKNOWN, details: message });
      }),
      mutation("garbage leaves the server broken", /INTERNAL/, (toy) => {
        const { decode } = toy.habits;
        let broken = false;
        toy.habits.decode = (read, bytes) => {
          try {
            if (broken) throw new Error("the parser is in an undefined state");
            return decode(read, bytes);
          } catch (error) {
            broken = true;
            throw error;
          }
        };
      }),
    ],
    "errors/unknown-method": [
      mutation(
        "a gateway sends what it does not know to the first method",
        /expected status 12 .*, got \d+/,
        (toy) => {
          const [{ desc }] = toy.services as [(typeof toy.services)[number]];
          toy.habits.incoming = (headers) => {
            if (String(headers[":path"]).endsWith("/NoSuchMethod"))
              headers[":path"] = `/${desc.typeName}/${desc.methods[0]?.name}`;
          };
        },
      ),
    ],
    "limits/message": [
      mutation(
        "larger messages are read than GetInfo says",
        /65537 bytes: expected status 8, got 0/,
        (toy) => {
          toy.habits.maxReceiveBytes = 1024 * 1024;
        },
      ),
      mutation(
        "only smaller messages are read than GetInfo says",
        /65536 bytes: expected status 0, got 8/,
        (toy) => {
          toy.habits.maxReceiveBytes = 32 * 1024;
        },
      ),
    ],
    "limits/metadata": [
      mutation("metadata is not limited", /a header of 8192 bytes: it was accepted/, (toy) => {
        toy.kept.metadataBytes = 64 * 1024;
      }),
      mutation(
        "less metadata is accepted than GetInfo says",
        /a header of 3072 of 8192 bytes was refused/,
        (toy) => {
          toy.kept.metadataBytes = 2048;
        },
      ),
    ],
    "limits/queue": [
      mutation("the queue is not bounded", /holds \d+ and has refused none; limits: \d+ wait/, (toy) => {
        toy.queue.capacity = Number.POSITIVE_INFINITY;
        toy.queue.slower = 8;
      }),
      mutation("a full queue is UNAVAILABLE", /expected RESOURCE_EXHAUSTED, got .*UNAVAILABLE/, (toy) => {
        toy.queue.full = () => new Refusal(status.UNAVAILABLE, "busy", "BUSY", [], 100);
      }),
      mutation("a full queue does not say when to come back", /no RetryInfo/, (toy) => {
        toy.queue.full = () => new Refusal(status.RESOURCE_EXHAUSTED, "busy", "BUSY");
      }),
      mutation(
        "cancelled calls keep their places",
        /a call waited \d+ ms for a queue whose calls were all cancelled|no room \d+ ms after/,
        (toy) => {
          toy.queue.leavesQueue = false;
          toy.queue.givesUp = false;
          toy.queue.slower = 4;
        },
      ),
    ],
    "auth/token": [
      mutation("a token is not asked for", /a call without a token: it was accepted/, (toy) => {
        toy.kept.token = undefined;
      }),
      mutation("any token will do", /a call with an unknown token: it was accepted/, (toy) => {
        const { admit } = toy.habits;
        toy.habits.admit = (metadata, name) => {
          if (metadata.get("authorization").length === 0) admit(metadata, name);
        };
      }),
      mutation(
        "an unknown token is PERMISSION_DENIED",
        /expected UNAUTHENTICATED, got PERMISSION_DENIED/,
        (toy) => {
          const { refuse } = toy.habits;
          toy.habits.refuse = (refusal) =>
            refusal.code === status.UNAUTHENTICATED
              ? { code: status.PERMISSION_DENIED, details: "no" }
              : refuse(refusal);
        },
      ),
      mutation("the refusal repeats the token", /the message repeats the token/, (toy) => {
        const { admit } = toy.habits;
        toy.habits.admit = (metadata, name) => {
          try {
            admit(metadata, name);
          } catch {
            const sent = String(metadata.get("authorization")[0]);
            throw new Refusal(status.UNAUTHENTICATED, `unknown: ${sent}`, "UNAUTHENTICATED");
          }
        };
      }),
    ],
    "auth/health": [
      mutation("probes need a token", /Check without a token: .*UNAUTHENTICATED/, (toy) => {
        toy.kept.open = [];
      }),
    ],
    "deadline/honoured": [
      mutation("deadlines are not read", /after a deadline of \d+ ms came status 0/, (toy) => {
        toy.habits.incoming = (headers) => {
          delete headers["grpc-timeout"];
        };
      }),
      mutation("a late call is CANCELLED", /after a deadline of \d+ ms came status 1/, (toy) =>
        ownDeadlines(toy, async (work, ms) => {
          const late = pause(ms).then(() => {
            throw new Refusal(status.CANCELLED, "too late", "CANCELLED");
          });
          return Promise.race([work(), late]);
        }),
      ),
      mutation(
        "a deadline is looked at once the work is done",
        /was told \d+ ms late, and others like it/,
        (toy) =>
          ownDeadlines(toy, async (work, ms) => {
            const end = Date.now() + ms;
            const reply = await work();
            if (Date.now() > end) throw new Refusal(status.DEADLINE_EXCEEDED, "too late", "DEADLINE");
            return reply;
          }),
      ),
    ],
    "deadline/passed": [
      mutation(
        "a timeout that rounds to 0 ms counts as none",
        /a deadline of 1 ns: expected status 4, got 0/,
        (toy) => {
          toy.habits.incoming = (headers) => {
            if (String(headers["grpc-timeout"]).endsWith("n")) delete headers["grpc-timeout"];
          };
        },
      ),
    ],
    "cancel/stops": [
      mutation(
        "cancelled calls are computed to their end",
        /took \d+ ms after 5 times \d+ ms of work were cancelled: it was done/,
        (toy) => {
          toy.queue.leavesQueue = false;
          toy.queue.givesUp = false;
        },
      ),
    ],
    "trace/accepted": [
      mutation(
        "a malformed traceparent fails the call",
        /traceparent ".*": expected status 0, got 3/,
        (toy) => {
          const { admit } = toy.habits;
          toy.habits.admit = (metadata, name) => {
            const [traceparent] = metadata.get("traceparent");
            if (
              traceparent !== undefined &&
              !/^00-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-/.test(String(traceparent))
            )
              throw new Refusal(status.INVALID_ARGUMENT, "bad traceparent", "BAD_TRACE");
            admit(metadata, name);
          };
        },
      ),
    ],
    "trace/continued": [
      mutation(
        "the trace context is dropped",
        /came with trace \w+, the server's span is of trace \w+/,
        (toy) => {
          const { traceOf } = toy;
          toy.traceOf = () => traceOf(new Metadata());
        },
      ),
      mutation("the trace is kept, the parent is not", /the server's span is a child of none/, (toy) => {
        const { traceOf } = toy;
        toy.traceOf = (metadata) => ({ ...traceOf(metadata), parentSpanId: "" });
      }),
    ],
    "health/check": [
      mutation("health has no key for the service", /NOT_FOUND/, (toy) => {
        toy.statuses.delete(typeName);
      }),
      mutation("health has no key for the whole server", /NOT_FOUND/, (toy) => {
        toy.statuses.delete("");
      }),
      mutation("health never turns to SERVING", /expected SERVING, got NOT_SERVING/, (toy) => {
        toy.statuses.set(typeName, Serving.NOT_SERVING);
      }),
      mutation("there is no health service", /UNIMPLEMENTED/, (toy) => remove(toy, Health)),
    ],
    "health/unknown": [
      mutation("every service is healthy", /Check: it was accepted/, (toy) => {
        toy.health.check = async () => create(HealthCheckResponseSchema, { status: Serving.SERVING });
      }),
      mutation("Watch refuses what it does not know", /NOT_FOUND|ended without a word/, (toy) => {
        const { watch } = toy.health;
        toy.health.watch = (request, call) => {
          if (!toy.statuses.has(request.service)) throw new Refusal(status.NOT_FOUND, "unknown", "UNKNOWN");
          return watch(request, call);
        };
      }),
      mutation("Watch calls everything healthy", /Watch: expected SERVICE_UNKNOWN, got SERVING/, (toy) => {
        const { watch } = toy.health;
        toy.health.watch = (request, call) => watch({ ...request, service: "" }, call);
      }),
    ],
    "health/watch": [
      mutation("Watch ends after one status", /Watch ended after its first word/, (toy) => {
        toy.health.watch = async function* () {
          yield create(HealthCheckResponseSchema, { status: Serving.SERVING });
        };
      }),
      mutation("Watch polls, and sends what did not change", /Watch spoke again without a change/, (toy) => {
        toy.health.watch = async function* (_, { signal }) {
          while (!signal.aborted) {
            yield create(HealthCheckResponseSchema, { status: Serving.SERVING });
            await pause(20);
          }
        };
      }),
      mutation("Watch speaks of changes only", /DEADLINE_EXCEEDED/, (toy) => {
        toy.health.watch = async function* (_, { signal }) {
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
        };
      }),
    ],
    "health/list": [
      mutation("List leaves the service out", /List: expected SERVING, got nothing/, (toy) => {
        after(toy.health, "list", (reply) => {
          delete reply.statuses[typeName];
          return reply;
        });
      }),
    ],
    "reflection/v1": [
      mutation("there is no reflection", /no reflection, neither v1 nor v1alpha/, (toy) => {
        remove(toy, ServerReflection);
        remove(toy, ServerReflectionAlpha);
      }),
      mutation("the service is not listed", /is not listed, but grpc\.health/, (toy) => {
        toy.described.listed = [Health.typeName];
      }),
    ],
    "reflection/v1alpha": [
      mutation("v1alpha is missing", /no reflection v1alpha/, (toy) => remove(toy, ServerReflectionAlpha)),
      mutation("v1alpha lists nothing", /is not listed/, (toy) => {
        toy.described.listed = [];
      }),
    ],
    "reflection/contract": [
      mutation("imports are not served", /reflection of .*types\.proto: .* is not known/, (toy) => {
        toy.described.files.delete("rlhf/types/v1/types.proto");
      }),
      mutation("a field has another number", /has number 77, not \d+/, (toy) => {
        described(toy).messageType[0]!.field[0]!.number = 77;
      }),
      mutation("a field has another name", /number \d+ is called renamed/, (toy) => {
        described(toy).messageType[0]!.field[0]!.name = "renamed";
      }),
      mutation("a method is missing", /GetInfo: is missing/, (toy) => {
        const [service] = described(toy).service;
        service!.method = service!.method.filter(({ name }) => name !== "GetInfo");
      }),
      mutation("an enum value has another number", /ELEMENT_TYPE_FLOAT32|has number 9, not \d+/, (toy) => {
        for (const each of toy.described.files.values()) {
          for (const value of each.enumType.flatMap((type) => type.value))
            if (value.number === 1) value.number = 9;
        }
      }),
    ],
    "reflection/errors": [
      mutation(
        "the types of error details are not linked in",
        /google\.rpc\.BadRequest is not known/,
        (toy) => {
          toy.described.files.delete("google/rpc/error_details.proto");
        },
      ),
    ],
    "reflection/health": [
      mutation("health is not described", /grpc\.health\.v1\.Health is not known/, (toy) => {
        toy.described.files.delete("grpc/health/v1/health.proto");
      }),
    ],
  };
}

/** One mistake for each check: the kit's code is the same for every service, and held against all mistakes with one. */
export function firstOfEach<T>(mutants: Mutants<T>): Mutants<T> {
  return Object.fromEntries(Object.entries(mutants).map(([id, list]) => [id, list.slice(0, 1)]));
}

/** Reads what cannot be read as a message without fields. */
function lenient(toy: BaseToy): void {
  const { decode } = toy.habits;
  toy.habits.decode = (read, bytes) => {
    try {
      return decode(read, bytes);
    } catch {
      return decode(read, Buffer.alloc(0));
    }
  };
}

/** Keeps deadlines in its own way; grpc-js hears of none. */
function ownDeadlines(toy: BaseToy, keep: <R>(work: () => Promise<R>, ms: number) => Promise<R>): void {
  toy.habits.incoming = (headers) => {
    const match = /^(\d+)m$/.exec(String(headers["grpc-timeout"] ?? ""));
    if (!match) return;
    delete headers["grpc-timeout"];
    headers["x-timeout-ms"] = match[1];
  };
  toy.habits.unary = (work, metadata) => {
    const [ms] = metadata.get("x-timeout-ms");
    return ms === undefined ? work() : keep(work, Number(ms));
  };
}
