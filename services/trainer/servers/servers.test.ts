/** @file Tests of how calls to servers are cut, how long they may take, and how tensors are read. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { BertScoreService } from "../../../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { PolicyService } from "../../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RewardService } from "../../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { ElementType, TensorSchema } from "../../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { implement, KitError, silentLog, startServer } from "../../../lib/rpc/index.js";
import { cutBySize, RunServers } from "./servers.js";
import { float32Of } from "./tensors.js";

describe("calls that serve a call", () => {
  it("end when that one does, whatever the run file allows them", async () => {
    const deadlines: Record<string, number | undefined> = {};
    const noting = (service: string) => (_request: object, ctx: { deadline: number | undefined }) => {
      deadlines[service] = ctx.deadline;
      throw new KitError("UNIMPLEMENTED", "not here");
    };
    const services = [
      implement(PolicyService, {
        ...{ generate: noting("generate"), generateStream: never, logProbs: noting("logProbs") },
        getInfo: noting("getInfo"),
      }),
      implement(RewardService, { score: noting("reward"), getInfo: noting("rewardInfo") }),
      implement(BertScoreService, {
        ...{ score: noting("bertscore"), explain: noting("explain"), getInfo: noting("bertscoreInfo") },
      }),
    ];
    const server = await startServer({ name: "fake", services, listen: "127.0.0.1:0", log: silentLog });
    const addresses = [server.address];
    const deadline = Date.now() + 20_000;
    const servers = new RunServers(
      {
        servers: {
          policy: { addresses },
          reference: { addresses },
          reward: { addresses },
          bertscore: { addresses },
        },
        timeouts: { generateMs: 3_600_000, scoreMs: 3_600_000 },
      } as never,
      deadline,
    );
    const { signal } = new AbortController();
    const group = { addresses };
    const [policy] = servers.policies;
    assert.ok(policy);
    const pairs = [{ candidate: "a", reference: "b" }];
    await Promise.allSettled([
      servers.describe(policy, signal, 60_000),
      servers.logprobs(policy, [{ ids: [1, 2], start: 1 }], { full: undefined, signal, deadlineMs: 60_000 }),
      servers.classifier(
        group,
        { texts: ["a"], function: "logit", truncate: true, label: undefined },
        signal,
      ),
      servers.similarities(group, { pairs, layer: undefined, idf: false, rescale: false }, signal),
    ]);
    servers.close();
    await server.drain();
    for (const call of ["getInfo", "logProbs", "reward", "bertscore"]) {
      const by = deadlines[call] ?? Number.POSITIVE_INFINITY;
      // it travels as the time that is left, and counts from the call's arrival
      assert.ok(Math.abs(by - deadline) < 5000, `${call}: ${by - deadline} ms after the call that it serves`);
    }
  });
});

async function* never(): AsyncGenerator<never> {}

describe("calls for whole distributions", () => {
  const span = (tokens: number) => ({ ids: Array(tokens + 1).fill(1), start: 1 });
  const sizes = (parts: { ids: readonly number[] }[][]) =>
    parts.map((part) => part.map(({ ids }) => ids.length - 1));

  it("are cut so that each reply fits, in order, and a sequence that alone is too large goes alone", () => {
    const parts = cutBySize([span(2), span(3), span(9), span(1)], 10, 5 * 10 * 4);
    assert.deepEqual(sizes(parts), [[2, 3], [9], [1]]);
  });

  it("are one where no distribution is asked for, and none for no sequence", () => {
    assert.deepEqual(sizes(cutBySize([span(2), span(300)], 0, 1)), [[2, 300]]);
    assert.deepEqual(cutBySize([], 10, 1), []);
  });
});

describe("a tensor of the wire", () => {
  const tensor = (elementType: ElementType, bytes: number) =>
    create(TensorSchema, { elementType, shape: [BigInt(bytes / 4)], data: new Uint8Array(bytes) });

  it("is read whatever its alignment in the message", () => {
    const buffer = new Uint8Array(9);
    new DataView(buffer.buffer).setFloat32(1, 1.5, true);
    new DataView(buffer.buffer).setFloat32(5, -2, true);
    const message = create(TensorSchema, {
      elementType: ElementType.FLOAT32,
      shape: [2n],
      data: buffer.subarray(1),
    });
    assert.deepEqual(float32Of(message, 2, "logprobs"), new Float32Array([1.5, -2]));
  });

  it("that is missing, of another type or length is an error that says so", () => {
    assert.throws(() => float32Of(undefined, 2, "logprobs"), /logprobs: expected float32 \[2\], got nothing/);
    assert.throws(() => float32Of(tensor(ElementType.INT32, 8), 2, "logprobs"), /got INT32 \[2\] in 8 bytes/);
    assert.throws(
      () => float32Of(tensor(ElementType.FLOAT32, 4), 2, "logprobs"),
      /got FLOAT32 \[1\] in 4 bytes/,
    );
  });
});
