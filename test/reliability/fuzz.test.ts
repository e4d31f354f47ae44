/** @file Input that nobody wrote: random requests for every method, garbage on every port, damaged files. */
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { Health } from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import { methodPath } from "../../lib/api/index.js";
import { useSandbox } from "../support/sandbox.js";
import { noteFigure, percentiles } from "./figures.js";
import type { Digested, Meal } from "./fixtures/file-eater.js";
import { fuzzServices, startAll } from "./fuzz-services.js";
import { garbage, sendGarbage } from "./garbage.js";
import { frameOf, GrpcWire } from "./grpc-wire.js";
import { LeakDetector } from "./leak-detector.js";
import { scale } from "./scale.js";
import { reporting } from "./vitals.js";

const SEED = 20;
/** Time in which two pings of half a second each have found every connection that is dead. */
const PINGED_MS = 1500;

describe("whatever is sent to the services", function () {
  this.timeout(scale.full ? 900_000 : 180_000);
  const sandbox = useSandbox("each");

  it("as requests is answered with documented codes, and nothing dies, hangs or grows", async () => {
    const started = performance.now();
    const counts = await fuzzServices(sandbox(), {
      test: "fuzz: leaks",
      count: scale.fuzz.requests,
      seed: SEED,
    });
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
    const by = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} ${name}`);
    const seconds = (performance.now() - started) / 1000;
    noteFigure({
      test: "fuzz: requests",
      load: `${total} random and mutated requests over all methods of 8 listeners, ${seconds.toFixed(0)} s`,
      measured: by.join(", "),
    });
    assert.ok(counts.get("OK"), "no request was accepted: the fuzz stays at the surface");
    assert.ok(counts.get("INVALID_ARGUMENT"));
  });

  it("as bytes that are no HTTP/2 leaves the servers as they were", async () => {
    const box = sandbox();
    const folder = box.path("vitals");
    // what garbage leaves half open is found soon
    const listeners = await startAll(box, reporting(folder), ["--keepalive", "500ms"]);
    const servers = [...new Set(listeners.map(({ service }) => service))];
    const detector = new LeakDetector(
      folder,
      servers.map(({ service, pid }) => ({ name: service, pid })),
    );
    const rounds = 4;
    const perRound = Math.ceil(scale.fuzz.garbage / rounds / listeners.length);
    for (let round = 0; round < rounds; round++) {
      await Promise.all(
        listeners.map(async ({ address }, i) => {
          const seed = SEED + round * 100 + i;
          for (const bytes of fc.sample(garbage(methodPath(Health.method.check)), {
            seed,
            numRuns: perRound,
          })) {
            await sendGarbage(address, bytes, 40);
          }
        }),
      );
      for (const { address } of listeners) {
        const wire = await GrpcWire.connect(address);
        const body = frameOf(new Uint8Array());
        const { status } = await wire.call({
          path: "/grpc.health.v1.Health/Check",
          body,
          deadlineMs: 10_000,
        });
        assert.equal(status, 0);
        wire.close();
      }
      // a session that HTTP/2 itself has given up does not see its socket close: pings must find it
      await sleep(PINGED_MS);
      await detector.round(perRound * listeners.length);
    }
    detector.assertFlat("garbage: leaks");
    noteFigure({
      test: "fuzz: garbage",
      load: `${rounds * perRound * listeners.length} connections with noise, random frames and damaged sessions`,
      measured: "every server answered after each round",
    });
    for (const service of servers) assert.equal(await service.stop(), 0, service.service);
  });

  it("as checkpoints, tokenizers and run files is read or refused with an error that has a code", async () => {
    const digested = await feed({ seed: SEED, files: scale.fuzz.files });
    const wrong = digested.filter(({ outcome }) => !/^[A-Z_]+$/.test(outcome));
    const first = wrong.slice(0, 5).map(({ what, outcome }) => `${what}: ${outcome}`);
    assert.deepEqual(first, [], `${wrong.length} of ${digested.length} files failed unexpectedly`);
    const by = new Map<string, number>();
    for (const { outcome } of digested) by.set(outcome, (by.get(outcome) ?? 0) + 1);
    const { max } = percentiles(digested.map(({ ms }) => ms));
    noteFigure({
      test: "fuzz: files",
      load: `${digested.length} damaged safetensors, config.json, tokenizer files and run files`,
      measured: `${[...by].map(([name, count]) => `${count} ${name}`).join(", ")}; slowest ${max.toFixed(0)} ms`,
    });
    assert.ok((by.get("OK") ?? 0) > 0 && (by.get("CHECKPOINT_CORRUPT") ?? 0) > 0);
  });

  it("as a model directory keeps a service from starting, with the reason and its exit status", async () => {
    const box = sandbox();
    const damaged = box.path("damaged");
    const golden = fileURLToPath(new URL("../../../test/golden/bert-tiny-classifier", import.meta.url));
    cpSync(golden, damaged, { recursive: true });
    for (const [file, content] of [
      ["config.json", '{"model_type": "bert", "hidden_size": -1}'],
      ["tokenizer.json", '{"model": {"type": "WordPiece", "vocab": 7}}'],
      ["model.safetensors", "not a tensor"],
    ] as const) {
      cpSync(golden, damaged, { recursive: true });
      writeFileSync(join(damaged, file), content);
      const { code, stderr } = await box.rlhf(["serve", "reward", "--model", damaged]);
      assert.equal(code, 3, `${file}: ${stderr}`);
      assert.match(stderr, new RegExp(file.replace(".", "\\.")), stderr);
    }
  });
});

/** Time that one file may take, in milliseconds, before it counts as a hang: a whole machine may stand still for some. */
const HANG_MS = 60_000;

/** Has a process of its own read damaged files. Rejects where it hangs, dies, or runs out of 512 MB of heap. */
async function feed(meal: Meal): Promise<Digested[]> {
  const script = fileURLToPath(new URL("./fixtures/file-eater.js", import.meta.url));
  const eater = fork(script, [], { execArgv: ["--max-old-space-size=512"] });
  const digested: Digested[] = [];
  let at = "";
  try {
    await new Promise<void>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const watch = () => {
        clearTimeout(timer);
        timer = setTimeout(() => reject(new Error(`hangs on ${at}`)), HANG_MS);
      };
      eater.on(
        "message",
        (message: Digested | { begins: string; at: string } | { done: true } | { failure: string }) => {
          watch();
          if ("begins" in message) at = `${message.begins} (${message.at})`;
          else if ("done" in message) resolve();
          else if ("failure" in message) reject(new Error(message.failure));
          else digested.push(message);
        },
      );
      eater.once("exit", (code, signal) => reject(new Error(`died (${signal ?? code}) of ${at}`)));
      watch();
      eater.send(meal);
    });
  } finally {
    eater.kill("SIGKILL");
  }
  return digested;
}
