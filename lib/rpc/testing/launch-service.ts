/**
 * @file Runs the `main(argv)` of the module that the first argument names; the process that `startService` starts.
 */
const [module, ...args] = process.argv.slice(2);
const { main } = (await import(module ?? "")) as { main: (argv: readonly string[]) => Promise<void> };
await main(args);
