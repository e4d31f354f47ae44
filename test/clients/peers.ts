/**
 * @file Clients that are not ours, as processes: grpcurl, buf and Python. Found where scripts/ci-peers.sh puts them (`.rlhf/tools`) or
 * on the PATH. A test that has none leaves itself out, and says so loudly.
 */
import { execFile, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Context } from "mocha";
import { packageRoot } from "../../lib/config/package-root.js";

/** How a program ended. */
export interface Ended {
  /** Exit status; null if a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Folder of the Python client and its generated modules. */
export const PYTHON_CLIENT = join(packageRoot(), "examples/clients/python");
/** Folder of the Python reward server. */
export const PYTHON_SERVER = join(packageRoot(), "examples/reward-servers/python");
/** buf, a development dependency. */
export const BUF = join(packageRoot(), "node_modules/.bin/buf");

/** Path of grpcurl. Where there is none the test or suite is left out, with a line that says how to get it. */
export function grpcurlOrSkip(test: Context): string {
  return (
    firstThatRuns(["grpcurl", join(packageRoot(), ".rlhf/tools/grpcurl")], ["-version"]) ??
    skip(test, "grpcurl")
  );
}

/** Path of a Python with grpcio and `modules`. Where there is none the test or suite is left out, with a line that says so. */
export function pythonOrSkip(test: Context, ...modules: readonly string[]): string {
  const wanted = ["grpc", "grpc_status", ...modules];
  const pythons = [join(packageRoot(), ".rlhf/tools/python/bin/python"), "python3"];
  return (
    firstThatRuns(pythons, ["-c", `import ${wanted.join(", ")}`]) ??
    skip(test, `Python with ${wanted.join(", ")}`)
  );
}

function firstThatRuns(programs: readonly string[], args: readonly string[]): string | undefined {
  return programs.find(
    (program) =>
      (!program.includes("/") || existsSync(program)) &&
      spawnSync(program, args, { stdio: "ignore" }).status === 0,
  );
}

function skip(test: Context, what: string): never {
  console.log(`      !! no ${what} here: these tests are LEFT OUT; \`bash scripts/ci-peers.sh\` installs it`);
  return test.skip();
}

/** Runs a program to its end. Rejects if it can't be started or takes longer than `timeoutMs`. */
export function runProgram(
  program: string,
  args: readonly string[],
  {
    env = {},
    cwd,
    timeoutMs = 60_000,
  }: { env?: Readonly<Record<string, string>>; cwd?: string; timeoutMs?: number } = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const options = { env: { ...process.env, ...env }, cwd, timeout: timeoutMs, maxBuffer: 64 << 20 };
    execFile(program, [...args], options, (error, stdout, stderr) => {
      if (error && (error.killed || typeof error.code === "string")) reject(error);
      else
        resolve({ code: error ? (typeof error.code === "number" ? error.code : null) : 0, stdout, stderr });
    });
  });
}

/** Runs Python with the generated modules at hand. */
export function runPython(
  python: string,
  args: readonly string[],
  options: Parameters<typeof runProgram>[2] = {},
): Promise<Ended> {
  return runProgram(python, args, { ...options, env: { PYTHONPATH: PYTHON_CLIENT, ...options.env } });
}

/** The Python reward server, running. */
export interface PythonServer {
  readonly address: string;
  /** Asks it to end, and resolves with its exit status. */
  stop(): Promise<number | null>;
  /** Ends it at once. */
  kill(): Promise<void>;
}

/** Starts the Python reward server of the examples. Rejects with what it wrote if it ends before it serves. */
export function startPythonServer(python: string, listen = "127.0.0.1:0"): Promise<PythonServer> {
  const child = spawn(python, [join(PYTHON_SERVER, "server.py"), listen], {
    env: { ...process.env, PYTHONPATH: PYTHON_CLIENT },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const end = (signal: NodeJS.Signals) => {
    child.kill(signal);
    return ended;
  };
  return new Promise((resolve, reject) => {
    const hear = (chunk: Buffer) => {
      said += chunk.toString();
      const address = /^serving \S+ on (\S+)$/m.exec(said)?.[1];
      if (!address) return;
      resolve({
        address,
        stop: () => end("SIGTERM"),
        kill: async () => {
          await end("SIGKILL");
        },
      });
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.once("error", reject);
    void ended.then((code) => reject(new Error(`server.py ended with ${code}:\n${said}`)));
  });
}
