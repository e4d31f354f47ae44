#!/usr/bin/env node
/**
 * @file `rlhf`: trains, serves, calls and checks. Reads the command line and hands each command its options; commands live
 * in commands/.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { RpcError } from "../lib/rpc/index.js";
import { buildVersion } from "../lib/rpc/server-info.js";
import { conformance } from "./commands/conformance.js";
import { dashboard } from "./commands/dashboard.js";
import { demo } from "./commands/demo.js";
import { doctor } from "./commands/doctor.js";
import { bertscore, generate, score } from "./commands/models.js";
import { diff, replay } from "./commands/replay.js";
import { evaluate, listRuns, request, resume, watch } from "./commands/runs.js";
import { SERVICES, serve } from "./commands/serve.js";
import { CliError, EXIT } from "./exit-codes.js";
import { createOutput, type Output, printable } from "./output.js";
import { trainFile } from "./training.js";

const EXIT_HELP = `
Exit status:
  0    done
  1    a run failed, or an internal error
  2    wrong command line, run file or input; nothing was started
  3    a server could not be reached, or something needed is missing here
  4    a server refused what was asked
  130  interrupted`;

/** Runs one command line (without node and script). Returns the exit status; never throws. */
export async function run(argv: readonly string[]): Promise<number> {
  if (argv[0] === "serve" && argv[1] !== undefined && !argv[1].startsWith("-")) {
    // a service parses its own flags, and its process lives on after this returns
    try {
      await serve(argv[1], argv.slice(2));
      return Number(process.exitCode ?? EXIT.ok);
    } catch (error) {
      return report(error);
    }
  }
  try {
    await program().parseAsync([...argv], { from: "user" });
    return Number(process.exitCode ?? EXIT.ok);
  } catch (error) {
    return report(error);
  }
}

function program(): Command {
  const root = new Command("rlhf")
    .description("RLHF as gRPC microservices: train, serve, score, compare.")
    .version(buildVersion())
    .option("--json", "print results as JSON on stdout, nothing else there")
    .showHelpAfterError("(--help shows what is accepted)")
    .addHelpText("after", EXIT_HELP)
    .exitOverride();
  const output = (): Output => createOutput(root.opts<{ json?: boolean }>().json ?? false);
  const act =
    <A extends unknown[]>(work: (output: Output, ...args: A) => Promise<void>) =>
    (...args: A) =>
      work(output(), ...args);

  connected(
    training(root.command("demo").description("make small models from examples/faq, tune by PPO, compare")),
  )
    .option("--seed <n>", "seed of everything random", whole, 1)
    .option("--batches <n>", "batches of PPO", whole)
    .addHelpText("after", example("rlhf demo --runs-dir /tmp/runs"))
    .action(act((out, options) => demo(options, out)));

  for (const [command, kind, description, file] of [
    ["train", "ppo", "tune a policy by PPO as a run file says, then compare before and after", "run.yaml"],
    ["sft", "sft", "fine-tune (or make) a GPT-2 on question/answer rows", "sft.yaml"],
    ["train-reward", "reward", "train (or make) a classifier on text/label rows", "reward.yaml"],
    ["train-encoder", "encoder", "train (or make) an encoder for BERTScore on texts", "encoder.yaml"],
  ] as const) {
    connected(training(root.command(command).description(description)))
      .argument("<file>", "run file, YAML or JSON; - is standard input")
      .option("--run-id <name>", "name of the run; default: kind and time")
      .option(
        "--trainer <address>",
        "run on this trainer; default: one is started here, with what the run needs",
      )
      .option("--no-eval", "leave out the comparison at the end")
      .addHelpText("after", example(`rlhf ${command} ${file}`))
      .action(act((out, path, options) => trainFile(path, kind, options, out)));
  }

  connected(training(root.command("eval").description("compare before and after once more")))
    .argument("<run>", "name of a ppo run")
    .option("--trainer <address>", "trainer of the run; default: one is started here")
    .option("--rows <n>", "rows to compare on", whole)
    .option("--seed <n>", "seed of the choice of rows and of sampling", whole)
    .addHelpText("after", example("rlhf eval ppo-2026-11-24-10-20-30 --rows 100"))
    .action(act((out, id, options) => evaluate(id, options, out)));

  root
    .command("serve")
    .description(
      `serve a model or the trainer: ${SERVICES.join(", ")}; \`rlhf serve reward --help\` lists the flags`,
    )
    .argument("<service>", SERVICES.join(", "))
    .addHelpText("after", example("rlhf serve reward --model ./reward-model --listen 127.0.0.1:50051"))
    .action(() => {
      throw new CliError(`serve: expected one of ${SERVICES.join(", ")}`, EXIT.usage);
    });

  connected(root.command("generate").description("continue prompts on a policy server"))
    .argument("[prompt...]", "prompts; none or -: one a line on standard input")
    .requiredOption("--address <address>", "policy server")
    .option("--max-new-tokens <n>", "most tokens to generate", whole)
    .option("--sample", "sample instead of taking the most probable token")
    .option("--temperature <t>", "divides the logits", real)
    .option("--top-k <k>", "keep the k most probable tokens", whole)
    .option("--top-p <p>", "keep the smallest set of this probability", real)
    .option("--repetition-penalty <p>", "penalty on tokens that occurred", real)
    .option("--seed <n>", "seed of sampling", whole)
    .addHelpText("after", example('rlhf generate --address 127.0.0.1:50051 "question: why?\\nanswer:"'))
    .action(act((out, prompts, options) => generate(prompts, options, out)));

  connected(root.command("score").description("score texts on a reward server"))
    .argument("[text...]", "texts; none or -: one a line on standard input")
    .requiredOption("--address <address>", "reward server")
    .option("--label <label>", "label whose score is the reward: name or index")
    .addOption(
      new Option("--function <name>", "how logits become scores").choices(["softmax", "sigmoid", "none"]),
    )
    .option("--truncate", "cut texts that are too long")
    .addHelpText("after", example('rlhf score --address 127.0.0.1:50051 "thank you, that helps"'))
    .action(act((out, texts, options) => score(texts, options, out)));

  connected(root.command("bertscore").description("compare candidates with references on a BERTScore server"))
    .requiredOption("--address <address>", "BERTScore server")
    .option("--candidate <text>", "text to judge; may be given several times", collect, [])
    .option("--reference <text>", "what it is compared with; one for each candidate", collect, [])
    .option("--layer <n>", "layer to compare", whole)
    .option("--idf", "weigh tokens by inverse document frequency")
    .option("--rescale", "rescale with the layer's baseline")
    .addHelpText(
      "after",
      example('rlhf bertscore --address 127.0.0.1:50052 --candidate "a cat" --reference "the cat"'),
    )
    .action(act((out, options) => bertscore(options, out)));

  const runs = root.command("runs").description("list, watch, pause, resume, stop, replay and compare runs");
  const ofRuns = (command: Command) =>
    connected(training(command)).option(
      "--trainer <address>",
      "trainer of the runs; default: the runs directory",
    );
  ofRuns(runs.command("list").description("runs, newest first"))
    .addHelpText("after", example("rlhf runs list"))
    .action(act((out, options) => listRuns(options, out)));
  const withRun = (command: Command) => ofRuns(command).argument("<run>", "name of the run");
  withRun(runs.command("watch").description("show a run as it goes on"))
    .addHelpText("after", example("rlhf runs watch RUN --trainer 127.0.0.1:50050"))
    .action(act((out, id, options) => watch(id, options, out)));
  for (const what of ["pause", "stop"] as const) {
    withRun(runs.command(what).description(`${what} a run at the end of its step, with a checkpoint`))
      .addHelpText("after", example(`rlhf runs ${what} RUN --trainer 127.0.0.1:50050`))
      .action(act((out, id, options) => request(id, what, options, out)));
  }
  withRun(runs.command("resume").description("go on with a run from its newest good checkpoint"))
    .option(
      "--file <file>",
      "run file to go on with; servers, length and the like may differ from the run's own",
    )
    .addHelpText("after", example("rlhf runs resume RUN"))
    .action(act((out, id, options) => resume(id, options, out)));
  withRun(
    runs.command("replay").description("learn from recorded batches once more and compare every number"),
  )
    .requiredOption("--batch <n>", "batch to repeat, from the newest checkpoint before it", whole)
    .addHelpText("after", example("rlhf runs replay RUN --batch 40"))
    .action(act((out, id, options) => replay(id, options, out)));
  withRun(runs.command("diff").description("say which batch and quantity first differed between two runs"))
    .argument("<other>", "name of the other run")
    .addHelpText("after", example("rlhf runs diff RUN OTHER"))
    .action(act((out, id, other, options) => diff(id, other, options, out)));

  root
    .command("dashboard")
    .description("show runs in a browser: curves, batches and samples, live")
    .option("--runs-dir <dir>", "directory of the runs", "runs")
    .option("--listen <address>", "address to serve on; port 0 takes a free one", "127.0.0.1:8080")
    .option("--insecure", "allow an address that other machines can reach")
    .addHelpText("after", example("rlhf dashboard --runs-dir runs"))
    .action(act((out, options) => dashboard(options, out)));

  connected(root.command("doctor").description("check this machine and servers, and say what is wrong"))
    .argument("[address...]", "host:port, or service=host:port to say what it should be")
    .option("--no-machine", "leave this machine out: a probe of servers")
    .addHelpText("after", example("rlhf doctor reward=127.0.0.1:50051 trainer=127.0.0.1:50050"))
    .action(act((out, addresses, options) => doctor(addresses, options, out)));

  connected(
    root.command("conformance").description("check a server, ours or a stranger's, against its contract"),
  )
    .argument("<service>", "reward, policy or bertscore")
    .argument("[address]", "the server")
    .option("--only <check>", "run this check or group; may be given several times", collect, [])
    .option("--skip <check>", "leave out this check or group; may be given several times", collect, [])
    .option(
      "--trace-file <file>",
      "file in which the server's spans arrive as OTLP JSON lines (its own --trace-file)",
    )
    .option("--list", "name the checks and run none")
    .addHelpText("after", example("rlhf conformance reward 127.0.0.1:50052 --skip health"))
    .action(act((out, service, address, options) => conformance(service, address, options, out)));
  return root;
}

/** Options of commands that call servers. */
function connected(command: Command): Command {
  return command
    .option("--token-file <file>", "bearer token for the servers")
    .option("--tls", "use TLS with the machine's authorities")
    .option("--tls-ca <file>", "PEM file with the authorities to trust")
    .option("--tls-cert <file>", "PEM file with this client's certificate")
    .option("--tls-key <file>", "PEM file with its private key")
    .option("--timeout <ms>", "deadline of one call", whole);
}

/** Options of commands that work on runs. */
function training(command: Command): Command {
  return command
    .option("--runs-dir <dir>", "directory of the runs", "runs")
    .option("--nats <url>", "NATS server that carries weights; default: one is started where there is one")
    .option("--log-level <level>", "log level of the services that are started");
}

const example = (line: string) => `\nExample:\n  ${line}`;

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new InvalidArgumentError("expected a whole number from 0 up.");
  return value;
}

function real(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || text.trim() === "") throw new InvalidArgumentError("expected a number.");
  return value;
}

const collect = (value: string, before: string[]) => [...before, value];

/** Says what went wrong, and gives the exit status for it. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage; // it has said so itself
  const say = (text: string) => process.stderr.write(`rlhf: ${printable(text)}\n`);
  if (error instanceof CliError) {
    say(error.message);
    return error.exitCode;
  }
  if (error instanceof RpcError) {
    say(error.message);
    for (const { field, description } of error.violations) say(`  ${field}: ${description}`);
    if (error.status === "INVALID_ARGUMENT") return EXIT.usage;
    const unreachable = ["UNAVAILABLE", "DEADLINE_EXCEEDED"].includes(error.status);
    return unreachable ? EXIT.unavailable : EXIT.refused;
  }
  const failure = error as Error & { code?: unknown };
  if (["CONFIG_INVALID", "INVALID_ADDRESS", "TLS_INVALID", "ENOENT"].includes(String(failure.code))) {
    say(failure.message);
    return EXIT.usage;
  }
  if (failure.code === "DEVICE_UNAVAILABLE") {
    say(failure.message);
    return EXIT.unavailable;
  }
  say(failure.stack ?? String(error));
  return EXIT.failed;
}

const status = await run(process.argv.slice(2));
// a service that serves keeps its process alive by itself; everything else ends here
if (status !== EXIT.ok) process.exitCode = status;
