/**
 * @file The dashboard's routes: pages, their files, and a read-only API over run directories. Nothing here changes a run.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Context, Hono } from "hono";
import { streamSSE } from "hono/streaming";
import { NotFoundError } from "./errors.js";
import { onlyHosts, securityHeaders } from "./guards.js";
import { JsonLinesFollower } from "./json-lines.js";
import { streamRun } from "./live.js";
import { RunDirectories, reportPath } from "./run-directory.js";
import { readSamples } from "./samples.js";
import { loadStaticFiles } from "./static-files.js";
import { readTimeline } from "./timeline.js";

/** What the routes need. */
export interface AppOptions {
  readonly runsDirectory: string;
  /** Accept requests under loopback names alone, so that no web page can reach this dashboard by a name of its own. */
  readonly loopbackOnly: boolean;
  /** Ends the live streams. */
  readonly signal: AbortSignal;
  /** Hears of failures that are not the client's. */
  readonly onError: (error: Error) => void;
}

/** A report brings its styles with it, and nothing else. */
const REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox";

/** The application; its `fetch` answers requests. */
export function createApp({ runsDirectory, loopbackOnly, signal, onError }: AppOptions): Hono {
  const runs = new RunDirectories(runsDirectory);
  const files = loadStaticFiles();
  const page = (c: Context, name: string, status: 200 | 404 = 200) => {
    const file = files.get(name);
    if (!file)
      throw new Error(`${name} is missing beside the compiled dashboard; \`npm run build\` puts it there`);
    c.header("content-type", file.type);
    c.header("cache-control", "no-cache");
    return c.body(file.body, status);
  };
  const app = new Hono();
  app.use(securityHeaders);
  if (loopbackOnly) app.use(onlyHosts);

  app.get("/", (c) => page(c, "index.html"));
  app.get("/compare", (c) => page(c, "compare.html"));
  app.get("/runs/:id", (c) => {
    runs.directoryOf(c.req.param("id"));
    return page(c, "run.html");
  });
  app.get("/runs/:id/report", (c) => {
    const path = reportPath(runs.directoryOf(c.req.param("id")));
    const report = textOrMissing(path, "This run has no report yet; `rlhf eval` writes one.");
    c.header("content-security-policy", REPORT_POLICY);
    return c.html(report);
  });
  app.get("/assets/:name", (c) => {
    const name = c.req.param("name");
    if (!files.has(name) || name.endsWith(".html")) throw new NotFoundError("There is no such file.");
    return page(c, name);
  });

  app.get("/api/runs", (c) => c.json({ directory: runs.root, runs: runs.list() }));
  app.get("/api/runs/:id", (c) => c.json(runs.details(c.req.param("id"))));
  app.get("/api/runs/:id/metrics", async (c) => {
    const follower = new JsonLinesFollower(join(runs.directoryOf(c.req.param("id")), "metrics.jsonl"));
    const lines: unknown[] = [];
    for (let part = await follower.read(); part.values.length > 0; part = await follower.read()) {
      if (part.reset) lines.length = 0;
      lines.push(...part.values);
    }
    return c.json({ lines });
  });
  app.get("/api/runs/:id/stream", (c) => {
    const id = c.req.param("id");
    runs.directoryOf(id);
    return streamSSE(
      c,
      (stream) => {
        const left = new AbortController();
        stream.onAbort(() => left.abort());
        return streamRun(stream, runs, id, AbortSignal.any([signal, left.signal]));
      },
      async (error) => onError(error),
    );
  });
  app.get("/api/runs/:id/samples/:step", (c) => {
    const { id, step } = c.req.param();
    return c.json({ samples: readSamples(runs.directoryOf(id), stepOf(step)) });
  });
  app.get("/api/runs/:id/timeline/:step", async (c) => {
    const { id, step } = c.req.param();
    return c.json(await readTimeline(runs.directoryOf(id), id, stepOf(step)));
  });

  app.notFound((c) => missing(c, "There is no such page.", page));
  app.onError((error, c) => {
    if (error instanceof NotFoundError) return missing(c, error.message, page);
    onError(error);
    return c.json({ error: "The dashboard failed; its log says why." }, 500);
  });
  return app;
}

/** 404: JSON below /api, else a page for people. */
function missing(
  c: Context,
  message: string,
  page: (c: Context, name: string, status: 404) => Response,
): Response {
  if (c.req.path.startsWith("/api/")) return c.json({ error: message }, 404);
  return page(c, "not-found.html", 404);
}

/** A step of a path; one that is no number does not exist. */
function stepOf(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new NotFoundError(`There is no batch ${JSON.stringify(text)}.`);
  return Number(text);
}

function textOrMissing(path: string, message: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    throw new NotFoundError(message);
  }
}
