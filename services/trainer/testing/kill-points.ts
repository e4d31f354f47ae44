/**
 * @file For tests: exact places in the work of a run at which its process ends by SIGKILL. What the product calls is wrapped from outside:
 * the run's context, the optimizer, and the file system's own rename and link.
 */
import fsPromises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { Adam } from "../learner/adam.js";
import type { PpoRunConfig } from "../run-config.js";
import type { RunContext } from "../runs/context.js";

/** Places in step N of a run, in the order in which they come. */
export const KILL_POINTS = [
  "learning begins",
  "between two minibatches",
  "amid an optimizer step",
  "publishing begins",
  "the weights lie on the bus, the head does not name them",
  "the head has moved, nobody noted it",
  "the published version is noted",
  "the step's metrics are written",
  "the checkpoint begins",
  "the checkpoint is half written",
  "the checkpoint is whole and not in its place",
  "the checkpoint is in its place",
  "the tuned model is whole and not in its place",
  "the tuned model is in its place",
] as const;

/** One of them. */
export type KillPoint = (typeof KILL_POINTS)[number];

/** Ends this process as nothing else does. */
function die(): never {
  process.kill(process.pid, "SIGKILL");
  for (;;); // the signal is on its way
}

/** Arms one point; returns the context to run with. */
export function armed(
  context: RunContext<PpoRunConfig>,
  point: KillPoint,
  at: number,
): RunContext<PpoRunConfig> {
  let step = 0;
  const here = (one: KillPoint) => point === one && step === at;
  const checkpoint = `/checkpoints/step-${String(at).padStart(8, "0")}`;
  const inCheckpoint = (path: string) => path.includes(`${checkpoint}.tmp-`);

  const { update } = Adam.prototype;
  Adam.prototype.update = function (options) {
    const updating = update.call(this, options); // runs on another thread by now
    if (here("amid an optimizer step")) die();
    return updating;
  };
  around("link", (_, to) => to.includes("/heads/"), {
    before: "the weights lie on the bus, the head does not name them",
    after: "the head has moved, nobody noted it",
  });
  around("rename", (_, to) => to.endsWith("/model") && inCheckpoint(to), {
    after: "the checkpoint is half written",
  });
  around("rename", (_, to) => to.endsWith(checkpoint), {
    before: "the checkpoint is whole and not in its place",
    after: "the checkpoint is in its place",
  });
  around("rename", (_, to) => to === `${context.directory}/model`, {
    before: "the tuned model is whole and not in its place",
    after: "the tuned model is in its place",
  });

  return {
    ...context,
    phase: (now, phase, share) => {
      if (phase !== "generate") step = now; // generation may be ahead
      context.phase(now, phase, share);
      if (phase === "learn" && share === 0 && here("learning begins")) die();
      if (phase === "learn" && share >= 0.5 && here("between two minibatches")) die();
      if (phase === "publish" && here("publishing begins")) die();
      if (phase === "checkpoint" && here("the checkpoint begins")) die();
    },
    published: (weights) => {
      context.published(weights);
      if (here("the published version is noted")) die();
    },
    step: (now, metrics) => {
      context.step(now, metrics);
      if (here("the step's metrics are written")) die();
    },
  };

  /** Dies before or after a call of the file system. */
  function around(
    call: "rename" | "link",
    isIt: (from: string, to: string) => boolean,
    points: { readonly before?: KillPoint; readonly after?: KillPoint },
  ): void {
    const original = fsPromises[call];
    fsPromises[call] = async (from, to) => {
      const it = isIt(String(from), String(to));
      if (it && points.before && here(points.before)) die();
      await original(from, to);
      if (it && points.after && here(points.after)) die();
    };
    syncBuiltinESMExports();
  }
}
