/** @file A process that serves echo as a service's main.ts would; told to, it lets a rejection or an exception escape. */
import { drainOnSignals } from "../drain.js";
import { lifecycleService } from "../lifecycle.js";
import { silentLog } from "../log.js";
import { announceReady } from "../ready.js";
import { startEcho } from "./echo.js";

const lifecycle = lifecycleService({ inFlight: () => server.inFlight, end: (why) => end(why) });
const server = await startEcho({ adminListen: "127.0.0.1:0", adminServices: [lifecycle] });
const { end } = drainOnSignals({ drain: () => server.drain(), log: silentLog, hardLimitMs: 10_000 });
process.on("message", (what) => {
  if (what === "reject") void Promise.reject(new Error("nobody handles this"));
  if (what === "throw") throw new Error("nobody catches this");
});
announceReady("echo", server);
