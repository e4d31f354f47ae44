/**
 * @file Why a request ended before it was done.
 */
import { CancelledError } from "../../lib/rpc/errors.js";

/** The error of work whose signal fired: the signal's own reason where it has a stable code (a deadline), else CANCELLED. */
export function cancellation({ reason }: AbortSignal): Error {
  const coded = reason instanceof Error && "code" in reason && typeof reason.code === "string";
  return coded ? reason : new CancelledError();
}
