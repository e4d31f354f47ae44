/**
 * @file The fetch thread: reads and verifies objects over a connection of its own, and gives the memory away. Its garbage is its own
 * too: the client of NATS makes some three bytes of it for each byte that it reads.
 */
import { constants, setPriority } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { silentLog } from "../telemetry/index.js";
import { type FetchReply, type FetchRequest, type FetchThreadData, factsOf } from "./fetch-messages.js";
import { fetchObject } from "./fetch-object.js";
import { openTransport } from "./open.js";
import type { Transport } from "./transport.js";

const { url, options } = workerData as FetchThreadData;
const running = new Map<number, AbortController>();
let opened: Promise<Transport> | undefined;

// on Linux a priority belongs to the thread that asks for it; elsewhere it would be the whole process's
if (process.platform === "linux") setPriority(constants.priority.PRIORITY_BELOW_NORMAL);

/** One connection for all objects; where it cannot be had, the next fetch tries again. */
function transport(): Promise<Transport> {
  opened ??= openTransport(url, options, silentLog()).catch((error) => {
    opened = undefined;
    throw error;
  });
  return opened;
}

parentPort!.on("message", (request: FetchRequest) => {
  if (request.type === "cancel") running.get(request.call)?.abort();
  else void answer(request);
});

async function answer({ call, manifest, options }: Extract<FetchRequest, { type: "fetch" }>): Promise<void> {
  const cancel = new AbortController();
  running.set(call, cancel);
  try {
    const tensors = await fetchObject(await transport(), manifest, options, cancel.signal);
    reply(
      { call, tensors },
      [...tensors.values()].map(({ buffer }) => buffer as ArrayBuffer),
    );
  } catch (error) {
    reply({ call, error: factsOf(error) });
  } finally {
    running.delete(call);
  }
}

function reply(message: FetchReply, transfer: ArrayBuffer[] = []): void {
  parentPort!.postMessage(message, transfer);
}
