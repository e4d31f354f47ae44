/** @file Configuration: one schema per process, parsed once into a frozen object. */
export { ConfigError } from "./errors.js";
export {
  type ConfigSources,
  environmentNames,
  type Frozen,
  loadConfig,
  parseConfig,
  parseYaml,
} from "./load-config.js";
export { maskSecrets, maskUrl, secret } from "./mask.js";
export { packageRoot } from "./package-root.js";
export { bytes, duration, formatBytes, formatDuration, parseBytes, parseDuration } from "./units.js";
