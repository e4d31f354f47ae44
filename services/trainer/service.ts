/**
 * @file TrainerService over the run manager: checks requests, and turns records and events into messages.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { TrainerService } from "../../lib/api/gen/rlhf/trainer/v1/trainer_pb.js";
import type { ServerInfoSchema } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { ConfigError } from "../../lib/config/index.js";
import { assertDevice } from "../../lib/engine/index.js";
import { InvalidFieldError, implement, type ServiceImplementation, Validator } from "../../lib/rpc/index.js";
import type { Evaluator } from "./evaluate/evaluator.js";
import type { Replayer } from "./replay/replayer.js";
import { RUN_ID, RUN_ID_RULE, type RunManager } from "./runs/manager.js";
import { toDifference, toEvaluation, toEvent, toReplayed, toRun } from "./wire.js";

const MAX_CONFIG_BYTES = 1 << 20;
const MAX_PAGE = 1000;

/** Limits of the service's requests, as GetInfo names them. */
export const TRAINER_LIMITS = { max_config_bytes: MAX_CONFIG_BYTES, max_page_size: MAX_PAGE } as const;

/**
 * The trainer's service. `cwd` is where relative paths of run files start if a request names no directory; `server` gives build and
 * limits for GetInfo.
 */
export function trainerService(
  runs: RunManager,
  evaluator: Evaluator,
  replayer: Replayer,
  cwd: string,
  server: () => MessageInitShape<typeof ServerInfoSchema>,
): ServiceImplementation {
  const described = (id: string) => {
    const { record, directory } = runs.get(id);
    return toRun(record, directory);
  };
  return implement(
    TrainerService,
    {
      async startRun(request) {
        const v = new Validator();
        v.text("config", request.config).notEmpty().maxBytes(MAX_CONFIG_BYTES);
        const { runId } = request;
        v.require(
          runId === undefined || RUN_ID.test(runId),
          "run_id",
          `is ${JSON.stringify(runId)}; accepted: ${RUN_ID_RULE}`,
        );
        v.check();
        const base = request.baseDirectory ?? cwd;
        await assertDevice(namingFields(() => runs.parse(request.config, base)).device);
        const record = namingFields(() => runs.start(request.config, base, request.runId));
        return { run: described(record.id) };
      },
      async *watchRun(request, ctx) {
        const v = new Validator();
        v.number("from_event", request.fromEvent).atLeast(0);
        v.check();
        const run = described(request.runId); // an unknown run is an error at once, not an empty stream
        for await (const event of runs.watch(request.runId, Number(request.fromEvent ?? 0n), ctx.signal)) {
          yield toEvent(event, () => run);
        }
      },
      listRuns(request) {
        const v = new Validator();
        v.number("page_size", request.pageSize).atLeast(1).atMost(MAX_PAGE);
        const from =
          request.pageToken === undefined || request.pageToken === "" ? 0 : Number(request.pageToken);
        v.require(Number.isSafeInteger(from) && from >= 0, "page_token", "is not from an earlier reply");
        v.check();
        const records = runs.list();
        const to = from + (request.pageSize ?? 100);
        return {
          runs: records.slice(from, to).map((record) => described(record.id)),
          nextPageToken: to < records.length ? String(to) : "",
        };
      },
      getRun(request) {
        return { run: described(request.runId), config: runs.get(request.runId).config };
      },
      pauseRun(request) {
        runs.request(request.runId, "paused");
        return { run: described(request.runId) };
      },
      async resumeRun(request) {
        const v = new Validator();
        v.text("config", request.config).notEmpty().maxBytes(MAX_CONFIG_BYTES);
        v.check();
        const { directory, config } = runs.get(request.runId);
        const base = request.baseDirectory ?? directory;
        await assertDevice(namingFields(() => runs.parse(request.config ?? config, base)).device);
        namingFields(() => runs.resume(request.runId, request.config, request.baseDirectory));
        return { run: described(request.runId) };
      },
      stopRun(request) {
        runs.request(request.runId, "stopped");
        return { run: described(request.runId) };
      },
      async evaluate(request, ctx) {
        const v = new Validator();
        v.number("rows", request.rows).atLeast(1);
        v.number("seed", request.seed).atMost(Number.MAX_SAFE_INTEGER);
        v.text("config", request.config).notEmpty().maxBytes(MAX_CONFIG_BYTES);
        v.check();
        const options = {
          rows: request.rows,
          seed: request.seed === undefined ? undefined : Number(request.seed),
          config: request.config,
          signal: ctx.signal,
          deadline: ctx.deadline,
        };
        const compared = await evaluator.evaluate(request.runId, options).catch((error) => {
          throw namedFields(error);
        });
        const { variants, rows, paths } = compared;
        return toEvaluation(variants, rows, paths);
      },
      async *replayRun(request, ctx) {
        const { record } = runs.get(request.runId);
        const batch = Number(request.batch);
        const v = new Validator();
        // the step that failed has a record, too
        v.number("batch", batch)
          .atLeast(1)
          .atMost(record.step + 1);
        v.check();
        const warn = (message: string) => ctx.log.warn({ run: request.runId }, message);
        for await (const replayed of replayer.replay(request.runId, batch, { signal: ctx.signal, warn })) {
          yield toReplayed(replayed);
        }
      },
      diffRuns(request) {
        return toDifference(replayer.diff(request.runId, request.otherRunId));
      },
      getInfo: () => ({ activeRuns: runs.load.active, server: server() }),
    },
    { lasting: ["watchRun"] },
  );
}

/** Does what may find problems of a run file, and throws them as field violations. */
function namingFields<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw namedFields(error);
  }
}

/** Problems of a run file as field violations, each below `config`; any other error as it is. */
function namedFields(error: unknown): unknown {
  if (!(error instanceof ConfigError)) return error;
  return new InvalidFieldError(
    error.problems.map((problem) => {
      const at = problem.indexOf(": ");
      const name = problem.slice(0, at);
      // what is wrong with the whole file is said of "run file"
      return { field: name === "run file" ? "config" : `config.${name}`, description: problem.slice(at + 2) };
    }),
  );
}
