/** @file Versioned weights: publish, watch, fetch, follow; over NATS or a folder. */
export {
  type BusOptions,
  type FetchOptions,
  type PublishOptions,
  type ServerStatus,
  servedVersion,
  type WaitOptions,
  type WeightsBus,
} from "./bus.js";
export {
  BusAddressError,
  BusUnavailableError,
  WeightsCancelledError,
  WeightsConflictError,
  WeightsCorruptError,
  WeightsDeadlineError,
  WeightsGoneError,
  WeightsNotFiniteError,
} from "./errors.js";
export { findNonFinite } from "./finite.js";
export type { WeightsManifest } from "./manifest.js";
export type { NatsAccess } from "./nats-connection.js";
export {
  findNatsServer,
  type NatsServer,
  NatsServerError,
  type NatsServerOptions,
  startNatsServer,
} from "./nats-server.js";
export type { WeightTensor } from "./object-bytes.js";
export { type OpenOptions, openWeightsBus } from "./open.js";
export { type FollowerOptions, type ServedVersion, WeightsFollower } from "./subscriber.js";
