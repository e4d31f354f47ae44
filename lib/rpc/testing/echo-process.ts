/** @file A process that serves echo as a service's main.ts would; with the argument `reject` it breaks when told to. */
import { drainOnSignals } from "../drain.js";
import { silentLog } from "../log.js";
import { announceReady } from "../ready.js";
import { startEcho } from "./echo.js";

const server = await startEcho();
drainOnSignals({ drain: () => server.drain(), log: silentLog, hardLimitMs: 10_000 });
if (process.argv.includes("reject")) {
  process.once("message", () => void Promise.reject(new Error("nobody handles this")));
}
announceReady("echo", server);
