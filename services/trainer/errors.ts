/** @file Expected failures of the trainer, each with a stable code that lib/rpc turns into a gRPC status. */

import { hostname } from "node:os";

/** No run of that name. */
export class UnknownRunError extends Error {
  readonly code = "UNKNOWN_RUN";
  override readonly name = "UnknownRunError";
  constructor(readonly runId: string) {
    super(`run ${JSON.stringify(runId)}: no such run; \`rlhf runs list\` names those that exist`);
  }
}

/** The run's state does not allow what was asked. */
export class RunStateError extends Error {
  readonly code = "WRONG_STATE";
  override readonly name = "RunStateError";
}

/** Another process works on the run directory. */
export class RunLockedError extends Error {
  readonly code = "WRONG_STATE";
  override readonly name = "RunLockedError";
  constructor(
    readonly directory: string,
    readonly owner: { pid: number; host: string; since: string },
  ) {
    const elsewhere = owner.host === hostname() ? "" : `; if that machine is gone, remove ${directory}/lock`;
    super(
      `run directory ${directory} is in use by process ${owner.pid} on ${owner.host} since ${owner.since}${elsewhere}`,
    );
  }
}

/** A run was asked to stop; `how` says what it becomes. */
export class RunInterrupted extends Error {
  override readonly name = "RunInterrupted";
  constructor(readonly how: "paused" | "stopped") {
    super(`run ${how} on request`);
  }
}

/** A wait or call of the run failed; says which server, which call, since when. */
export class RunFailedError extends Error {
  override readonly name: string = "RunFailedError";
  constructor(
    readonly reason: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** As many runs as the trainer takes are at work. */
export class TrainerBusyError extends Error {
  readonly code = "QUEUE_FULL";
  override readonly name = "TrainerBusyError";
  readonly retryAfterMs = 10_000;
  constructor(
    readonly active: readonly string[],
    readonly most: number,
  ) {
    super(`${most} ${most === 1 ? "run is" : "runs are"} at work already: ${active.join(", ")}`);
  }
}
