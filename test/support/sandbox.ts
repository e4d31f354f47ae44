/**
 * @file What one test, or one describe, has of its own: a temporary directory, processes, clients. `useSandbox` gives a fresh one
 * and ends everything in it afterwards, whatever happened.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { type Client, type ClientOptions, createClient } from "../../lib/rpc/index.js";
import { findNatsServer, type NatsServer, startNatsServer } from "../../lib/weights/index.js";
import { eventually } from "./eventually.js";
import {
  type Ended,
  killMarked,
  markedProcesses,
  type ProcessOptions,
  type Running,
  runRlhf,
  type Service,
  startRlhf,
  startService,
} from "./processes.js";

/** A directory, processes and clients that go away together. */
export class Sandbox {
  readonly directory = mkdtempSync(join(tmpdir(), "rlhf-test-"));
  readonly mark = randomUUID();
  readonly #cleanups: (() => unknown)[] = [];

  /** A path below the sandbox's directory. */
  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  /** Writes a file and returns its path. */
  write(name: string, text: string): string {
    writeFileSync(this.path(name), text);
    return this.path(name);
  }

  /** Runs `rlhf …` in the sandbox's directory to its end. */
  rlhf(args: readonly string[], options: ProcessOptions & { timeoutMs?: number } = {}): Promise<Ended> {
    return runRlhf(this.mark, args, { cwd: this.directory, ...options });
  }

  /** Starts `rlhf …` in the sandbox's directory. */
  start(args: readonly string[], options: ProcessOptions = {}): Running {
    return startRlhf(this.mark, args, { cwd: this.directory, ...options });
  }

  /** Starts a service with one thread and a quiet log, and waits until it is ready. */
  serve(
    service: "policy" | "reward" | "bertscore" | "trainer",
    args: readonly string[],
    options: ProcessOptions & { timeoutMs?: number } = {},
  ): Promise<Service> {
    const threads = service === "trainer" ? [] : ["--threads", "1"];
    const level = args.includes("--log-level") ? [] : ["--log-level", "warn"];
    return startService(this.mark, service, [...threads, ...level, ...args], {
      cwd: this.directory,
      ...options,
    });
  }

  /** A client that is closed with the sandbox. */
  client<S extends GenServiceMethods>(
    service: GenService<S>,
    address: string,
    options: Partial<ClientOptions> = {},
  ): Client<S> {
    const client = createClient(service, address, { deadlineMs: 30_000, ...options });
    this.#cleanups.push(() => client.close());
    return client;
  }

  /** A nats-server of the sandbox's own; undefined, with a line on the console, where there is none on this machine. */
  async nats(): Promise<NatsServer | undefined> {
    if (!(await findNatsServer())) {
      console.log("      !! no nats-server on the PATH: what follows runs WITHOUT NATS");
      return undefined;
    }
    const server = await startNatsServer();
    this.#cleanups.push(() => server.stop());
    return server;
  }

  /** Something to undo at the end. */
  defer(cleanup: () => unknown): void {
    this.#cleanups.push(cleanup);
  }

  /** Living processes that were started here, directly or not. */
  processes(): number[] {
    return markedProcesses(this.mark);
  }

  /** Ends all processes, closes all clients, removes the directory. */
  async close(): Promise<void> {
    for (const cleanup of this.#cleanups.splice(0).reverse()) await cleanup();
    killMarked(this.mark);
    await eventually(
      () => this.processes().length === 0,
      () => "processes that were killed are gone",
    );
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** A sandbox for each test of the describe it is called in (`each`), or one for all of them (`all`). */
export function useSandbox(scope: "each" | "all"): () => Sandbox {
  let sandbox: Sandbox | undefined;
  const open = () => {
    sandbox = new Sandbox();
  };
  const close = async () => {
    await sandbox?.close();
    sandbox = undefined;
  };
  if (scope === "each") {
    beforeEach(open);
    afterEach(close);
  } else {
    before(open);
    after(close);
  }
  return () => {
    if (!sandbox) throw new Error("the sandbox is open only while tests run");
    return sandbox;
  };
}
