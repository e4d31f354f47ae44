/** @file Tells whoever started this process that it serves, and where. */

/** The one line of JSON on stdout, and the message to a parent that forked us. */
export interface ReadyMessage {
  event: "ready";
  /** "policy", "reward", "bertscore" or "trainer". */
  service: string;
  /** Address with its real port. */
  address: string;
  adminAddress?: string | undefined;
  pid: number;
}

/** For main.ts: prints the ready line, and sends it to a parent with an IPC channel. */
export function announceReady(
  service: string,
  { address, adminAddress }: { address: string; adminAddress: string | undefined },
): void {
  const message: ReadyMessage = { event: "ready", service, address, adminAddress, pid: process.pid };
  process.stdout.write(`${JSON.stringify(message)}\n`);
  process.send?.(message);
}
