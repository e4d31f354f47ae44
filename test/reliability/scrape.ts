/** @file A server's own counters, from its Prometheus endpoint. */
import { createServer } from "node:net";

/** A port of loopback that is free at this moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/** Sums of a server's metrics by name as the catalogue has it, dots as underscores, over all attributes. */
export async function scrape(port: number): Promise<Map<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const sums = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)/.exec(line);
    if (!match) continue;
    const [, name = "", value] = match;
    sums.set(name, (sums.get(name) ?? 0) + Number(value));
  }
  return sums;
}
