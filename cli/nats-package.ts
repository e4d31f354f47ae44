/** @file Debian's nats-server for the demo, where there is none and we may install it. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { findNatsServer } from "../lib/weights/index.js";
import type { Output } from "./output.js";

const run = promisify(execFile);
const APT = "/usr/bin/apt-get";
const MOST_MS = 60_000;

/** Installs Debian's package `nats-server` if none is on the PATH and this is root on Debian; says what it does. Never throws. */
export async function provideNatsServer(output: Output): Promise<void> {
  if ((await findNatsServer()) || process.getuid?.() !== 0 || !existsSync(APT)) return;
  output.say("installing Debian's nats-server package, so that weights travel over NATS …");
  const options = { timeout: MOST_MS, env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } };
  try {
    await run(APT, ["install", "-y", "-qq", "--no-install-recommends", "nats-server"], options).catch(
      async () => {
        await run(APT, ["update", "-qq"], options); // a fresh machine knows no packages yet
        await run(APT, ["install", "-y", "-qq", "--no-install-recommends", "nats-server"], options);
      },
    );
  } catch (error) {
    output.say(
      `it could not be installed (${((error as Error).message.split("\n")[0] ?? "").trim()}); files do as well`,
    );
  }
}
