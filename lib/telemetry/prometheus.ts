/** @file Serves the metrics of this process as `/metrics` in the Prometheus text format, on a server of its own. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus";

/** One scrape endpoint. */
export class PrometheusEndpoint {
  /** The metric reader that feeds the endpoint. */
  readonly reader = new PrometheusExporter({ preventServerStart: true });
  readonly #host: string;
  readonly #port: number;
  readonly #server: Server;

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
    this.#server = createServer((request, response) => {
      const path = (request.url ?? "/").split("?")[0];
      if (request.method !== "GET" || path !== "/metrics") {
        response.writeHead(404, { "content-type": "text/plain" }).end("metrics are at GET /metrics\n");
        return;
      }
      this.reader.getMetricsRequestHandler(request, response);
    });
    this.#server.unref(); // a scrape endpoint alone keeps no process alive
  }

  /** Starts listening; resolves to `host:port`. Rejects with the reason when the port cannot be had. */
  listen(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", (cause: Error) =>
        reject(new Error(`prometheus endpoint ${this.#host}:${this.#port}: ${cause.message}`, { cause })),
      );
      this.#server.listen(this.#port, this.#host, () => {
        const { address, port, family } = this.#server.address() as AddressInfo;
        resolve(family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`);
      });
    });
  }

  /** Stops listening and ends open connections. */
  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
