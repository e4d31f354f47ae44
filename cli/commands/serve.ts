/** @file `rlhf serve …`: hands the rest of the command line to a service. Services are met at run time, never imported. */
import { CliError, EXIT } from "../exit-codes.js";

/** The services that can be served. */
export const SERVICES = ["policy", "reward", "bertscore", "trainer"] as const;

/** Runs a service in this process; returns once it serves. */
export async function serve(service: string, args: readonly string[]): Promise<void> {
  if (!(SERVICES as readonly string[]).includes(service)) {
    throw new CliError(`serve ${service}: expected one of ${SERVICES.join(", ")}`, EXIT.usage);
  }
  const { main } = (await import(new URL(`../../services/${service}/main.js`, import.meta.url).href)) as {
    main: (args: readonly string[]) => Promise<void>;
  };
  await main(args);
}
