/** @file The one failure of this room: a configuration that must not be used. */

/** A configuration was refused. `problems` holds one line per problem: `path: value → what is accepted`. */
export class ConfigError extends Error {
  readonly code = "CONFIG_INVALID";
  /** Every problem found, in the order of the schema; never empty. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[], options?: ErrorOptions) {
    super(
      problems.length === 1
        ? `configuration: ${problems[0]}`
        : `configuration has ${problems.length} problems:\n${problems.map((line) => `  ${line}`).join("\n")}`,
      options,
    );
    this.name = "ConfigError";
    this.problems = problems;
  }
}
