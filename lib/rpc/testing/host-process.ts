/** @file A process with a ModelHost in it, for the test that a worker ends with its parent. Tells its worker's pid. */
import { silentLog } from "../log.js";
import { ModelHost } from "../model-host.js";

const host = new ModelHost({
  script: new URL("./test-worker.js", import.meta.url),
  config: {},
  log: silentLog,
});
await host.start();
process.send?.({ worker: host.pid });
