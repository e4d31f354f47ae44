/** @file What the exit status of `rlhf` means; scripts may rely on it. Listed in `rlhf --help`. */

/** Exit statuses. */
export const EXIT = {
  /** Done. */
  ok: 0,
  /** A run failed, or an internal error. */
  failed: 1,
  /** Wrong command line, run file or input; nothing was started. */
  usage: 2,
  /** A server could not be reached, or something needed is missing on this machine. */
  unavailable: 3,
  /** A server refused what was asked. */
  refused: 4,
  /** Interrupted with Ctrl-C. */
  interrupted: 130,
} as const;

/** An error whose exit status is known. */
export class CliError extends Error {
  override readonly name = "CliError";
  constructor(
    message: string,
    readonly exitCode: number = EXIT.failed,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
