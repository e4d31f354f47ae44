/** @file A real browser for tests: the Chromium of the machine, through playwright-core. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Path of Chromium (`CHROMIUM_PATH`, else the usual places); undefined where there is none. */
export function findChromium(): string | undefined {
  return [process.env.CHROMIUM_PATH ?? "", ...PLACES].find((path) => path !== "" && existsSync(path));
}

/** Starts it without a window. */
export function launchChromium(executablePath: string): Promise<Browser> {
  // containers have no user namespaces for the sandbox; the pages are ours
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
}
