/**
 * @file What can go wrong in an engine, with a stable code and the facts as fields.
 */
import type { EngineDevice } from "./types.js";

/** Which of the engine's expected failures happened. */
export type EngineErrorCode =
  | "INVALID_OPTION"
  | "INVALID_FEED"
  | "INVALID_TENSOR"
  | "RELEASED"
  | "COMPILE_FAILED"
  | "RUN_FAILED"
  | "ENGINE_UNAVAILABLE";

/** Facts that go with an EngineError. */
export interface EngineErrorFacts {
  /** Input, output or tensor at fault. */
  name?: string;
  expected?: string;
  got?: string;
  cause?: unknown;
}

/** A failure of a tensor, a compile or a run: the message says where, what was expected and what arrived. */
export class EngineError extends Error {
  readonly code: EngineErrorCode;
  /** Input, output or tensor at fault, where there is one. */
  readonly field: string | undefined;
  readonly expected: string | undefined;
  readonly got: string | undefined;

  constructor(code: EngineErrorCode, message: string, { name, expected, got, cause }: EngineErrorFacts = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "EngineError";
    this.code = code;
    this.field = name;
    this.expected = expected;
    this.got = got;
  }
}

/** A device that was asked for cannot be used here; `missing` says exactly what is not there and how to add it. */
export class DeviceUnavailableError extends Error {
  readonly code = "DEVICE_UNAVAILABLE";
  readonly device: EngineDevice;
  readonly missing: string;

  constructor(device: EngineDevice, missing: string, cause?: unknown) {
    super(`device ${device} is unavailable: ${missing}`, cause === undefined ? undefined : { cause });
    this.name = "DeviceUnavailableError";
    this.device = device;
    this.missing = missing;
  }
}
