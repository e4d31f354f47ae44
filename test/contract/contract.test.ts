/**
 * @file The four services as processes, each put to the same questions: wrong fields, versions not held, no room, still loading, unknown
 * names, order, which weights answered, health, reflection, GetInfo. The table beside this file says what to ask.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../lib/api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../lib/api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RunState, TrainerService } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { type Client, RpcError } from "../../lib/rpc/index.js";
import { buildVersion } from "../../lib/rpc/server-info.js";
import { eventually } from "../support/eventually.js";
import type { Service } from "../support/processes.js";
import { awaitRun, serversOf } from "../support/runs.js";
import { useSandbox } from "../support/sandbox.js";
import { bertscoreContract } from "./bertscore.js";
import { type AnyContract, golden } from "./contract.js";
import { policyContract } from "./policy.js";
import { rewardContract } from "./reward.js";
import { trainerContract } from "./trainer.js";

/** Without retries a test sees what the server said. */
const PLAIN = { retry: false } as const;

type AnyClient = Client<AnyContract["desc"]["method"]>;

for (const row of [policyContract, rewardContract, bertscoreContract, trainerContract]) {
  describe(`the contract of the ${row.service} service`, function () {
    this.timeout(120_000);
    const sandbox = useSandbox("all");
    let server: Service;
    let client: AnyClient;
    const { typeName } = row.desc;

    before("serves", async () => {
      const box = sandbox();
      server = await box.serve(row.service, row.args(box));
      client = box.client(row.desc, server.address, PLAIN);
      await row.prepare?.(client, box);
    });

    for (const [what, { field, call }] of Object.entries(row.wrong)) {
      it(`names the field ${field} where it gets ${what}: INVALID_ARGUMENT`, async () => {
        const error = await refusal(call(client));
        assert.equal(error.status, "INVALID_ARGUMENT", error.message);
        const fields = error.violations.map((violation) => violation.field);
        assert.ok(fields.includes(field), `violations of ${fields.join(", ")}`);
        assert.ok(
          error.violations.every(({ description }) => description.length > 5),
          "each says what is wrong",
        );
      });
    }

    for (const [what, call] of Object.entries(row.unmet)) {
      it(`refuses ${what}: FAILED_PRECONDITION`, async () => {
        const error = await refusal(call(client));
        assert.equal(error.status, "FAILED_PRECONDITION", error.message);
        assert.ok(error.reason, "a reason for machines");
      });
    }

    for (const [what, call] of Object.entries(row.unknown)) {
      it(`does not know ${what}: NOT_FOUND`, async () => {
        const error = await refusal(call(client));
        assert.equal(error.status, "NOT_FOUND", error.message);
      });
    }

    it("refuses what does not fit, with the time to come back, and answers the rest: RESOURCE_EXHAUSTED", async () => {
      const box = sandbox();
      const small = await box.serve(row.service, row.full.args(box));
      const some = box.client(row.desc, small.address, PLAIN);
      const calls = row.full.calls(box);
      const outcomes = await Promise.allSettled(calls.map((call) => call(some)));
      const refused = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
      assert.ok(refused.length > 0, "something is refused");
      assert.ok(refused.length < calls.length, `all are refused: ${refused[0]}`);
      for (const error of refused as RpcError[]) {
        assert.equal(error.status, "RESOURCE_EXHAUSTED", error.message);
        assert.equal(error.code, "QUEUE_FULL");
        assert.ok((error.retryDelayMs as number) > 0, "RetryInfo says when to come back");
      }
      await row.full.end?.(some);
      // once there is room it answers again
      await eventually(
        async () => {
          try {
            await calls[0]?.(some);
            return true;
          } catch (error) {
            const { status } = error as RpcError;
            assert.ok(["RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"].includes(status), String(error));
            return row.service === "trainer" && status === "FAILED_PRECONDITION"; // room, but the name is taken
          }
        },
        () => "an answer after the rush",
      );
      assert.equal(await small.stop(), 0);
    });

    const { loading } = row;
    if (loading) {
      it("says that it loads as long as it does, and is not SERVING: UNAVAILABLE", async () => {
        const box = sandbox();
        const model = box.path("endless");
        mkdirSync(model);
        // a config.json that nobody ever writes to
        assert.equal(spawnSync("mkfifo", [`${model}/config.json`]).status, 0);
        const args = ["serve", row.service, "--log-level", "info", ...loading.args(model)];
        const running = box.start(args);
        const said = await running.seen(/"address":"([^"]+)".*"listening"|"listening".*"address":"([^"]+)"/);
        const address = /"address":"([^"]+)"/.exec(
          said.split("\n").find((line) => /listening/.test(line)) ?? "",
        )?.[1];
        const early = box.client(row.desc, address as string, PLAIN);
        const health = box.client(Health, address as string, PLAIN);
        assert.equal((await health.check({})).status, Serving.NOT_SERVING);
        assert.equal((await health.check({ service: typeName })).status, Serving.NOT_SERVING);
        const error = await refusal(loading.call(early));
        assert.equal(error.status, "UNAVAILABLE", error.message);
        assert.equal(error.code, "NOT_READY");
        assert.ok((error.retryDelayMs as number) > 0, "RetryInfo says when to come back");
        running.child.kill("SIGTERM");
        await running.ended;
      });
    }

    for (const [what, answers] of Object.entries(row.order)) {
      it(`keeps the order of ${what}`, async () => {
        const [there, back] = await answers(client);
        assert.ok(new Set(there.map(String)).size > 1, "the items tell each other apart");
        assert.equal(there.length, back.length);
        for (const [i, one] of there.entries()) {
          const other = back[i];
          if (typeof one === "number")
            assert.ok(Math.abs(one - (other as number)) < 1e-5, `${one}, ${other}`);
          else assert.deepEqual(one, other);
        }
      });
    }

    for (const [what, weightsOf] of Object.entries(row.replies)) {
      it(`says which weights answered in ${what}`, async () => {
        const said = (await row.info(client)).weights;
        assert.match(said?.digest ?? "", /^[0-9a-f]{64}$/);
        const replies = await weightsOf(client);
        assert.ok(replies.length > 0);
        for (const weights of replies) {
          assert.deepEqual([weights?.version, weights?.digest], [said?.version, said?.digest]);
        }
      });
    }

    it("publishes its build, device, limits and default deadline in GetInfo", async () => {
      const described = (await row.info(client)).server;
      assert.equal(described?.buildVersion, buildVersion());
      assert.equal(described?.device, "cpu");
      assert.match(described?.engine ?? "", /onnxruntime/);
      assert.notEqual(described?.instance, "");
      assert.ok((described?.defaultDeadlineMs as bigint) > 0n);
      for (const limit of ["max_receive_bytes", "max_send_bytes", "max_metadata_bytes", ...row.limits]) {
        assert.ok(
          (described?.limits[limit] ?? 0n) > 0n,
          `${limit} among ${Object.keys(described?.limits ?? {})}`,
        );
      }
    });

    it("answers grpc.health.v1: Check, List and Watch", async () => {
      const health = sandbox().client(Health, server.address, PLAIN);
      for (const service of ["", typeName]) {
        assert.equal((await health.check({ service })).status, Serving.SERVING, service);
      }
      assert.equal((await refusal(health.check({ service: "rlhf.none.v1.NoService" }))).status, "NOT_FOUND");
      assert.equal((await health.list({})).statuses[typeName]?.status, Serving.SERVING);
      for await (const { status } of health.watch({ service: typeName })) {
        assert.equal(status, Serving.SERVING);
        break;
      }
    });

    it("answers reflection v1 and v1alpha with the service and all of its methods", async () => {
      for (const version of [ServerReflection, ServerReflectionAlpha]) {
        // both have the same messages but for their package
        const reflection = sandbox().client(version as typeof ServerReflection, server.address, PLAIN);
        const ask = async (messageRequest: {
          case: "listServices" | "fileContainingSymbol";
          value: string;
        }) => {
          for await (const { messageResponse } of reflection.serverReflectionInfo([{ messageRequest }])) {
            return messageResponse;
          }
          return assert.fail("no answer");
        };
        const listed = await ask({ case: "listServices", value: "" });
        assert.ok(listed.case === "listServicesResponse");
        assert.ok(listed.value.service.some(({ name }) => name === typeName));
        const found = await ask({ case: "fileContainingSymbol", value: typeName });
        assert.ok(found.case === "fileDescriptorResponse");
        const files = found.value.fileDescriptorProto.map((bytes) =>
          fromBinary(FileDescriptorProtoSchema, bytes),
        );
        const services = files.flatMap((file) =>
          file.service.map((each) => ({ ...each, package: file.package })),
        );
        const described = services.find((each) => `${each.package}.${each.name}` === typeName);
        assert.deepEqual(
          described?.method.map(({ name }) => name),
          Object.values(row.desc.method).map(({ name }) => name),
        );
      }
    });

    it("is the same process after all of this, and serves", async () => {
      assert.equal(server.child.exitCode, null);
      const health = sandbox().client(Health, server.address, PLAIN);
      assert.equal((await health.check({ service: typeName })).status, Serving.SERVING);
      assert.equal(await server.stop(), 0);
    });
  });
}

describe("the weights that a run published", function () {
  this.timeout(120_000);
  const sandbox = useSandbox("all");

  it("are named by the run and by the policy server that serves them, by the same version and digest", async () => {
    const box = sandbox();
    const model = golden("gpt2-tiny");
    const bus = `file:${box.path("weights")}`;
    const [trainer, policy, reference] = await Promise.all([
      box.serve("trainer", ["--runs-dir", box.path("runs")]),
      box.serve("policy", ["--model", model, "--weights", bus, "--run", "named"]),
      box.serve("policy", ["--model", model, "--pinned"]),
    ]);
    const client = box.client(TrainerService, trainer.address);
    const train = box.write("rows.csv", "question,answer\nwhere is it?,it is here.\nwho is it?,it is ann.\n");
    const config = {
      ...{ kind: "ppo", threads: 1, model, data: { train }, batches: 2, weights: { bus } },
      servers: serversOf({ policy: [policy.address], reference: [reference.address], reward: [] }),
      rewards: [{ type: "length", target: 4, signed: false }],
      generation: { maxNewTokens: 8 },
      ppo: { batchSize: 2, minibatchSize: 2, epochs: 1 },
    };
    await client.startRun({ config: JSON.stringify(config), runId: "named" });
    const { state, reason, weights } = await awaitRun(client, "named");
    assert.equal(state, RunState.FINISHED, reason);
    const { model: served } = await box.client(PolicyService, policy.address).getInfo({});
    assert.equal(weights?.version, 2n);
    assert.match(weights?.digest ?? "", /^[0-9a-f]{64}$/);
    assert.deepEqual(
      [served?.weights?.version, served?.weights?.digest],
      [weights?.version, weights?.digest],
    );
    const { runs } = await client.listRuns({});
    assert.equal(runs[0]?.weights?.digest, weights?.digest);
  });
});

/** The error of a call; fails the test if it succeeds or breaks in another way. */
async function refusal(call: Promise<unknown>): Promise<RpcError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof RpcError, String(error));
    assert.notEqual(error.status, "UNKNOWN", error.message);
    return error;
  }
  return assert.fail("it was accepted");
}
