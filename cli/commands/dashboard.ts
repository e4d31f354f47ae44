/** @file `rlhf dashboard`: serves a runs directory to a browser until it is interrupted. */
import { resolve } from "node:path";
import { DashboardListenError } from "../../dashboard/errors.js";
import { startDashboard } from "../../dashboard/server.js";
import { CliError, EXIT } from "../exit-codes.js";
import { onInterrupt } from "../interrupts.js";
import type { Output } from "../output.js";

/** Options of the dashboard. */
export interface DashboardOptions {
  readonly runsDir: string;
  readonly listen: string;
  readonly insecure?: boolean;
}

/** Serves until Ctrl-C. Throws CliError where it may not or cannot listen. */
export async function dashboard(options: DashboardOptions, output: Output): Promise<void> {
  const runsDirectory = resolve(options.runsDir);
  const running = await startDashboard({
    runsDirectory,
    listen: options.listen,
    insecure: options.insecure ?? false,
    onError: (error) => output.warn(error.stack ?? error.message),
  }).catch((error: unknown) => {
    if (!(error instanceof DashboardListenError)) throw error;
    throw new CliError(error.message, EXIT.usage, { cause: error });
  });
  output.result(
    { url: running.url, runsDirectory },
    `runs of ${runsDirectory} on ${running.url} (Ctrl-C ends it)`,
  );
  await new Promise<void>((end) => {
    const remove = onInterrupt(
      () => {
        remove();
        end();
      },
      () => {},
    );
  });
  await running.close();
}
