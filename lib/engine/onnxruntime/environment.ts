/**
 * @file What all engines of one process share in ONNX Runtime: the environment, the descriptions of host memory, and one
 * arena from which every program takes its intermediate results, so that programs that run one after the other reuse
 * the same memory instead of each keeping its own high-water mark.
 */
import { loadOrtApi, type OrtApi, OrtStatusError, type Pointer } from "./c-api.js";

const ARENA = 1; // OrtArenaAllocator
const DEFAULT_MEMORY = 0; // OrtMemTypeDefault
/** Failures come back as statuses and are thrown; the library's own log lines to stderr would only repeat them. */
export const LOG_FATAL = 4;

/** One per process and library; lives until the process ends. */
export interface OrtEnvironment {
  readonly api: OrtApi;
  readonly env: Pointer;
  /** OrtMemoryInfo of ordinary host memory. */
  readonly hostMemory: Pointer;
  /** Allocator that owns the strings the library returns. */
  readonly allocator: Pointer;
  /** Execution providers compiled into the library, for example `CPUExecutionProvider`. */
  readonly providers: readonly string[];
}

const environments = new Map<string, OrtEnvironment>();

/** The environment of the library at `path`. Throws Error where it cannot be loaded. */
export function ortEnvironment(path: string): OrtEnvironment {
  let environment = environments.get(path);
  if (environment === undefined) {
    environment = createEnvironment(loadOrtApi(path));
    environments.set(path, environment);
  }
  return environment;
}

function createEnvironment(api: OrtApi): OrtEnvironment {
  const env = api.out("CreateEnv", LOG_FATAL, "rlhf-mesh");
  const hostMemory = api.out("CreateCpuMemoryInfo", ARENA, DEFAULT_MEMORY);
  shareArena(api, env, hostMemory);
  const allocator = api.out("GetAllocatorWithDefaultOptions");
  const [names, count] = api.out2("GetAvailableProviders");
  const providers = api.read64(names, Number(count & 0xffffffffn)).map((name) => api.text(name));
  api.call("ReleaseAvailableProviders", names, providers.length);
  return { api, env, hostMemory, allocator, providers };
}

/**
 * Registers the arena, with the library's own growth rule (powers of two: with batches of changing shape it kept a
 * quarter less memory than growing by what is asked for). A second JavaScript thread of the process finds it registered
 * already, which is as good.
 */
function shareArena(api: OrtApi, env: Pointer, hostMemory: Pointer): void {
  try {
    api.call("CreateAndRegisterAllocator", env, hostMemory, 0n);
  } catch (error) {
    if (!(error instanceof OrtStatusError) || !/already/i.test(error.message)) throw error;
  }
}
