/**
 * @file `--device cuda` and `--device webgpu` in every service and in run files: computed there, or refused with what is missing, before
 * anything else happens. Never elsewhere in silence.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { BertScoreService } from "../lib/api/gen/rlhf/bertscore/v1/bertscore_pb.js";
import { PolicyService } from "../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { RewardService } from "../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { RunState, TrainerService } from "../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import { assertDevice, type DeviceUnavailableError } from "../lib/engine/index.js";
import { RpcError } from "../lib/rpc/index.js";
import { golden } from "./contract/contract.js";
import { awaitRun } from "./support/runs.js";
import { type Sandbox, useSandbox } from "./support/sandbox.js";

const DEVICES = ["cuda", "webgpu"] as const;
/** Flags of each service, and the device that a server says it computes on. */
const SERVICES = {
  policy: {
    args: () => ["--model", golden("gpt2-tiny")],
    deviceOf: async (box: Sandbox, address: string) =>
      (await box.client(PolicyService, address).getInfo({})).server?.device,
  },
  reward: {
    args: () => ["--model", golden("bert-tiny-classifier")],
    deviceOf: async (box: Sandbox, address: string) =>
      (await box.client(RewardService, address).getInfo({})).server?.device,
  },
  bertscore: {
    args: () => ["--model", golden("roberta-tiny")],
    deviceOf: async (box: Sandbox, address: string) =>
      (await box.client(BertScoreService, address).getInfo({})).server?.device,
  },
  trainer: {
    args: (box: Sandbox) => ["--runs-dir", box.path("runs")],
    deviceOf: async (box: Sandbox, address: string) => {
      const client = box.client(TrainerService, address);
      await client.startRun({ config: sftFile(box), runId: "by-flag" });
      await awaitRun(client, "by-flag");
      const { config } = await client.getRun({ runId: "by-flag" });
      return /^device: (\w+)$/m.exec(config)?.[1];
    },
  },
} as const;

/** What a refusal must say of a device: its name, and what is missing. */
const MISSING = {
  cuda: /device cuda is unavailable: .*(without CUDAExecutionProvider|is not installed beside .*ONNXRUNTIME_NODE_INSTALL=cuda12|CUDA 12 driver)/s,
  webgpu:
    /device webgpu is unavailable: .*(without WebGpuExecutionProvider|WebGpuExecutionProvider did not start: .*a GPU with a Vulkan, Metal or Direct3D 12 driver)/s,
} as const;

function sftFile(box: Sandbox, change: object = {}): string {
  const train = box.write("rows.csv", "question,answer\nwhere is it?,it is here.\nwho is it?,it is ann.\n");
  const small = { threads: 1, model: golden("gpt2-tiny"), epochs: 1, batchSize: 2, maxTokens: 16 };
  return JSON.stringify({ kind: "sft", data: { train }, ...small, ...change });
}

describe("a device that was asked for", function () {
  this.timeout(120_000);
  const sandbox = useSandbox("all");

  for (const device of DEVICES) {
    describe(device, () => {
      let missing = "";
      before("is looked for", async () => {
        missing = await assertDevice(device).then(
          () => "",
          (error: DeviceUnavailableError) => error.message,
        );
        if (missing === "") console.log(`      !! this machine has ${device}: services are held to use it`);
      });

      for (const [service, { args, deviceOf }] of Object.entries(SERVICES)) {
        it(`is used by the ${service} service, or refused at its start with what is missing`, async () => {
          const box = sandbox();
          const flags = [...args(box), "--device", device];
          if (missing === "") {
            const server = await box.serve(service as keyof typeof SERVICES, flags);
            assert.equal(await deviceOf(box, server.address), device);
            return;
          }
          const { code, stdout, stderr } = await box.rlhf(["serve", service, ...flags], {
            timeoutMs: 60_000,
          });
          assert.equal(code, 3, stderr);
          assert.match(stderr, MISSING[device]);
          assert.ok(!stdout.includes('"ready"'), "it never served");
        });
      }

      it("is used by a run whose file names it, or refused before the run exists, whatever the trainer's own is", async () => {
        const box = sandbox();
        const server = await box.serve("trainer", ["--runs-dir", box.path(`runs-${device}`)]);
        const client = box.client(TrainerService, server.address, { retry: false });
        const started = client.startRun({ config: sftFile(box, { device }), runId: "named" });
        if (missing === "") {
          await started;
          assert.equal((await awaitRun(client, "named")).state, RunState.FINISHED);
          return;
        }
        await assert.rejects(started, (error: RpcError) => {
          assert.ok(error instanceof RpcError);
          assert.equal(error.status, "FAILED_PRECONDITION");
          assert.equal(error.reason, "DEVICE_UNAVAILABLE");
          assert.match(error.message, MISSING[device]);
          return true;
        });
        assert.ok(!existsSync(box.path(`runs-${device}`, "named")), "nothing of the run is there");
      });

      it("is refused by `rlhf sft` with status 3, before a process is started", async () => {
        if (missing === "") {
          console.log(`      !! this machine has ${device}: NOT CHECKED how the command line refuses it`);
          return;
        }
        const box = sandbox();
        const file = box.write(`${device}.json`, sftFile(box, { device }));
        const { code, stderr } = await box.rlhf(["sft", file, "--runs-dir", box.path("none")]);
        assert.equal(code, 3, stderr);
        assert.match(stderr, MISSING[device]);
        assert.ok(!existsSync(box.path("none")), "no trainer was started");
      });
    });
  }

  it("that nobody knows is refused by every service, with those that it may be", async () => {
    const box = sandbox();
    for (const [service, { args }] of Object.entries(SERVICES)) {
      const { code, stderr } = await box.rlhf(["serve", service, ...args(box), "--device", "tpu"]);
      assert.equal(code, 2, stderr);
      assert.match(stderr, /device: "tpu" → .*cpu.*cuda.*webgpu/);
    }
  });

  it("is the trainer's for a run whose file names none", async () => {
    const box = sandbox();
    const server = await box.serve("trainer", ["--runs-dir", box.path("runs-cpu"), "--device", "cpu"]);
    const client = box.client(TrainerService, server.address);
    await client.startRun({ config: sftFile(box), runId: "plain" });
    assert.equal((await awaitRun(client, "plain")).state, RunState.FINISHED);
    assert.match((await client.getRun({ runId: "plain" })).config, /^device: cpu$/m);
  });
});
