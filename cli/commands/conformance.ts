/** @file `rlhf conformance`: checks a server, ours or a stranger's, against the contract of proto/rlhf, and says what it found. */
import { CONFORMANCE_KINDS, type ConformanceKind, checksOf, runConformance } from "../conformance/run.js";
import { type ConnectionOptions, clientOptions } from "../connection.js";
import { CliError, EXIT } from "../exit-codes.js";
import { type Output, paint, printable } from "../output.js";

/** Options of `rlhf conformance`. */
export interface ConformanceOptions extends ConnectionOptions {
  readonly only: readonly string[];
  readonly skip: readonly string[];
  /** File in which the server's spans arrive as OTLP JSON lines. */
  readonly traceFile?: string;
  /** True names the checks and runs none. */
  readonly list?: boolean;
}

/** Default of --timeout: the longest wait for one answer. */
const TIMEOUT_MS = 30_000;

/** `rlhf conformance reward|policy|bertscore ADDRESS` */
export async function conformance(
  kind: string,
  address: string | undefined,
  options: ConformanceOptions,
  output: Output,
): Promise<void> {
  if (!CONFORMANCE_KINDS.includes(kind as ConformanceKind)) {
    throw new CliError(
      `conformance: ${JSON.stringify(kind)} has no contract; expected ${CONFORMANCE_KINDS.join(", ")}`,
      EXIT.usage,
    );
  }
  const service = kind as ConformanceKind;
  if (options.list) {
    const checks = checksOf(service).map(({ id, what }) => ({ id, what }));
    output.result(checks, checks.map(({ id, what }) => `${id.padEnd(24)}  ${what}`).join("\n"));
    return;
  }
  if (address === undefined) throw new CliError("conformance: an address is missing", EXIT.usage);
  const connection = { ...clientOptions({ timeout: TIMEOUT_MS, ...options }), traceFile: options.traceFile };
  const marks = {
    pass: paint("green", "pass"),
    fail: paint("red", "FAIL"),
    skip: paint("yellow", "skip"),
  };
  const selection = { only: options.only, skip: options.skip };
  const results = await runConformance(service, address, connection, selection, (result) => {
    const { id, what, outcome, detail } = result;
    output.say(`${marks[outcome]}  ${id.padEnd(24)}  ${what}`);
    if (detail) output.say(`${" ".repeat(32)}${printable(detail)}`);
  }).catch((error: unknown) => {
    if (error instanceof RangeError) throw new CliError(error.message, EXIT.usage);
    throw error;
  });
  const count = (outcome: string) => results.filter((result) => result.outcome === outcome).length;
  const [passed, failed, skipped] = [count("pass"), count("fail"), count("skip")];
  const unseen = skipped > 0 ? `, ${skipped} could not be told` : "";
  output.result(
    { service, address, passed, failed, skipped, checks: results },
    `\n${passed} passed, ${failed} failed${unseen}`,
  );
  if (failed > 0) {
    throw new CliError(`${address} does not keep the contract of ${service}: ${failed} checks failed`);
  }
}
