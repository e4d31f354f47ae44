/** @file The server kit and the client kit: what every service and every caller of one shares. */

export { AddressError } from "./addresses.js";
export {
  type BatchContext,
  type Batched,
  Batcher,
  type BatcherOptions,
  holding,
  type Reservation,
  type SubmitOptions,
} from "./admission.js";
export { type Role, TokenFileError } from "./auth.js";
export {
  type BackendState,
  type CallOptions,
  type Client,
  type ClientMethod,
  type ClientOptions,
  createClient,
} from "./client.js";
export { codeRule, codeTable, type ErrorCode, statusName } from "./codes.js";
export { type DrainOptions, drainOnSignals } from "./drain.js";
export {
  CancelledError,
  DeadlineError,
  DrainingError,
  type ErrorFacts,
  ForbiddenError,
  InvalidFieldError,
  KitError,
  NotReadyError,
  QueueFullError,
  UnauthenticatedError,
  type Violation,
  WorkerCrashedError,
} from "./errors.js";
export {
  type CallContext,
  type Handlers,
  type ImplementOptions,
  implement,
  type ServiceImplementation,
} from "./implement.js";
export { type LifecycleOptions, lifecycleService } from "./lifecycle.js";
export { resolveLimits, type ServerLimits } from "./limits.js";
export { isLoopback, ListenError } from "./listen.js";
export { type Logger, silentLog } from "./log.js";
export {
  type HostCallOptions,
  type HostState,
  ModelHost,
  type ModelHostOptions,
} from "./model-host.js";
export { announceReady, type ReadyMessage } from "./ready.js";
export type { RetryPolicy } from "./retry.js";
export { RpcError } from "./rpc-error.js";
export {
  type LoadedWorker,
  serveWorker,
  type WorkerCall,
  type WorkerControl,
  type WorkerMethods,
} from "./serve-worker.js";
export { type RunningServer, type ServerOptions, startServer } from "./server.js";
export { buildVersion, instanceName, type ServerFacts, serverInfo } from "./server-info.js";
export { type ClientTls, type ServerTls, TlsError } from "./tls.js";
export { FieldCheck, ListCheck, NumberCheck, TextCheck, Validator } from "./validate.js";
export { WorkerError } from "./worker-protocol.js";
