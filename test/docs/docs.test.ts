/**
 * @file The pages of this repository, held against it: commands, flags and files that they name are there, links lead somewhere, run files
 * parse, requests fit their messages. What is cheap is run: the README's shortest PPO run, and its reward service.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { createFileRegistry, fromBinary, fromJsonString } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { parseAllDocuments } from "yaml";
import { SERVICES } from "../../cli/commands/serve.js";
import { descriptorSet } from "../../lib/api/gen/descriptors.js";
import { RewardService, ScoreRequestSchema } from "../../lib/api/gen/rlhf/reward/v1/reward_pb.js";
import { packageRoot } from "../../lib/config/package-root.js";
import { parseRunConfig } from "../../services/trainer/run-config.js";
import { tinyModels } from "../support/models.js";
import { useSandbox } from "../support/sandbox.js";
import { anchorsOf, blocksOf, commandsOf, inlineCodeOf, linksOf } from "./markdown.js";

const root = packageRoot();
/** Programs that pages may call and that are not ours. */
const FOREIGN = new Set([
  "docker",
  "echo",
  "go",
  "kubectl",
  "openssl",
  "python3",
  "alias",
  "venv/bin/pip",
  "venv/bin/python",
  "~/peers/bin/pip",
]);
/** Where pages are. */
const ROOMS = [
  "",
  "docs",
  "docs/decisions",
  "examples",
  "services",
  "lib",
  "bench",
  "deploy",
  "cli",
  "dashboard",
  "proto",
];

interface Page {
  /** Path from the root. */
  readonly path: string;
  readonly text: string;
}

const pages: Page[] = pagesBelow();

function pagesBelow(): Page[] {
  const walk = (folder: string, deep: boolean): string[] =>
    readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return deep && entry.name !== "node_modules" ? walk(path, true) : [];
      return entry.name.endsWith(".md") ? [path] : [];
    });
  const found = ROOMS.filter((room) => existsSync(join(root, room))).flatMap((room) =>
    walk(room, room !== ""),
  );
  return [...new Set(found)].map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
}

/** All commands of a page's shell blocks. */
const commands = ({ text }: Page): string[][] =>
  blocksOf(text)
    .filter(({ language }) => language === "sh")
    .flatMap(({ text: shell }) => commandsOf(shell));

/** `rlhf …` of a page, in blocks and in its sentences; without the program's name. */
const rlhfCommands = (page: Page): string[][] =>
  [...commands(page), ...inlineCodeOf(page.text).flatMap(commandsOf)]
    .filter(([program, first]) => program === "rlhf" && first !== undefined)
    .map(([, ...words]) => words);

const readme = pages.find(({ path }) => path === "README.md") as Page;

describe("the pages of this repository", function () {
  this.timeout(180_000);
  const sandbox = useSandbox("all");

  it("are found, the README among them, with commands to check", () => {
    assert.ok(pages.length > 15, pages.map(({ path }) => path).join());
    assert.ok(commands(readme).length >= 9);
    assert.ok(pages.flatMap(rlhfCommands).length > 30);
  });

  it("link to files and headings that are there", () => {
    const broken = pages.flatMap(({ path, text }) =>
      linksOf(text)
        .filter((link) => !/^[a-z]+:/.test(link))
        .filter((link) => {
          const [file, anchor] = link.split("#") as [string, string | undefined];
          const target = file === "" ? path : join(dirname(path), file);
          if (!existsSync(join(root, target))) return true;
          return (
            anchor !== undefined && !anchorsOf(readFileSync(join(root, target), "utf8")).includes(anchor)
          );
        })
        .map((link) => `${path}: ${link}`),
    );
    assert.deepEqual(broken, []);
  });

  it("name npm scripts, tools and scripts that are there, and nothing else but rlhf and grpcurl", () => {
    const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    const unknown = pages.flatMap((page) =>
      commands(page).flatMap((words) => {
        const [program = "", first = "", second = ""] = words.filter((word) => !/^[A-Z]+=/.test(word));
        const known =
          program === "npm"
            ? ["ci", "test", "install"].includes(first) || (first === "run" && second in scripts)
            : program === "npx"
              ? existsSync(join(root, "node_modules/.bin", first))
              : program === "node"
                ? existsSync(join(root, first))
                : ["rlhf", "grpcurl"].includes(program) || FOREIGN.has(program);
        return known ? [] : [`${page.path}: ${words.join(" ")}`];
      }),
    );
    assert.deepEqual(unknown, []);
    for (const script of ["demo", "test"])
      assert.match(readme.text, new RegExp(`npm ci && npm (run )?${script}\\b`));
  });

  it("name files of the examples that are there", () => {
    const missing = pages.flatMap(({ path, text }) =>
      [...text.matchAll(/\bexamples\/[\w./-]*\w/g)]
        .map(([file]) => file)
        .filter((file) => !existsSync(join(root, file)))
        .map((file) => `${path}: ${file}`),
    );
    assert.deepEqual(missing, []);
  });

  it("call rlhf with commands and flags that it has", async () => {
    const box = sandbox();
    const helps = new Map<string, Promise<string>>();
    const help = (command: string): Promise<string> => {
      const known = helps.get(command);
      if (known) return known;
      const asked = box.rlhf([...command.split(" ").filter(Boolean), "--help"]).then(({ code, stdout }) => {
        return code === 0 ? stdout : "";
      });
      helps.set(command, asked);
      return asked;
    };
    const names = async (command: string) =>
      [...(await help(command)).matchAll(/^ {2}([a-z][a-z-]*)\b.* {2,}\S/gm)].map(
        ([, name]) => name as string,
      );
    const wrong: string[] = [];
    for (const page of pages) {
      for (const words of rlhfCommands(page)) {
        const said = `${page.path}: rlhf ${words.join(" ")}`;
        const first = words[0] as string;
        let command = first.startsWith("-") ? "" : first;
        if (command !== "" && !(await names("")).includes(command)) {
          wrong.push(`${said} (no such command)`);
          continue;
        }
        if (command === "runs" && words[1] !== undefined) {
          if (!(await names("runs")).includes(words[1])) wrong.push(`${said} (no such command)`);
          command = `runs ${words[1]}`;
        }
        // `serve policy|reward` stands for each
        const services = command === "serve" && words[1] ? words[1].split("|") : [""];
        const flags = words.flatMap((word) => /^--[a-z-]+/.exec(word)?.[0] ?? []);
        for (const service of services) {
          if (service !== "" && !(SERVICES as readonly string[]).includes(service))
            wrong.push(`${said} (no such service)`);
          if (flags.length === 0) continue; // there is nothing more to ask for
          const text = await help(service === "" ? command : `${command} ${service}`);
          for (const flag of flags) {
            if (!new RegExp(`${flag}\\b(?!-)`).test(`${text} --help --json --version`)) {
              wrong.push(`${said} (${flag})`);
            }
          }
        }
      }
    }
    assert.deepEqual(wrong, []);
  });

  it("hold run files that parse, each as its kind says", () => {
    let count = 0;
    for (const { path, text } of pages) {
      for (const block of blocksOf(text).filter(({ language }) => language === "yaml")) {
        for (const document of parseAllDocuments(block.text)) {
          const raw = document.toJS() as { kind?: unknown } | null;
          if (!raw?.kind) continue; // a part of one
          count += 1;
          assert.doesNotThrow(() => parseRunConfig(JSON.stringify(raw), "/data"), `${path}: ${block.text}`);
        }
      }
    }
    assert.ok(count >= 4, `${count} run files`);
    for (const name of readdirSync(join(root, "examples/faq")).filter((file) => file.endsWith(".yaml"))) {
      parseRunConfig(readFileSync(join(root, "examples/faq", name), "utf8"), join(root, "examples/faq"));
    }
  });

  it("send grpcurl to methods that there are, with requests that fit", () => {
    const registry = createFileRegistry(
      fromBinary(FileDescriptorSetSchema, Buffer.from(descriptorSet, "base64")),
    );
    let count = 0;
    for (const page of pages) {
      for (const words of commands(page).filter(([program]) => program === "grpcurl")) {
        const symbol = words.at(-1) as string;
        if (["list", "describe"].includes(symbol)) continue;
        if (["list", "describe"].includes(words.at(-2) as string)) {
          assert.ok(registry.get(symbol), `${page.path}: ${symbol}`);
          continue;
        }
        const [service, name] = symbol.split("/") as [string, string];
        const method = registry.getService(service)?.methods.find((each) => each.name === name);
        assert.ok(method, `${page.path}: ${symbol}`);
        const data = words.indexOf("-d");
        if (data >= 0) fromJsonString(method.input, words[data + 1] as string, { registry });
        count += 1;
      }
    }
    assert.ok(count >= 4, `${count} calls`);
  });

  it("give a shortest PPO run that runs as it stands, but for its length", async () => {
    const box = sandbox();
    const models = await tinyModels();
    const block = blocksOf(readme.text).find(({ text }) => text.startsWith("kind: ppo"));
    assert.ok(block && block.text.split("\n").length < 15, "the README has a short run file");
    assert.match(block.text, /^batches: \d+$/m);
    const file = box.write(
      "run.yaml",
      block.text.replace(/^batches: \d+$/m, "batches: 1\nevaluation: { rows: 4 }"),
    );
    for (const [run, model] of [
      ["my-sft", models.policy],
      ["my-rm", models.reward],
      ["my-encoder", models.reward],
    ] as const) {
      mkdirSync(box.path("runs", run), { recursive: true });
      cpSync(model, box.path("runs", run, "model"), { recursive: true });
    }
    for (const name of ["train", "test"] as const) cpSync(models[name], box.path(`${name}.csv`));
    const { code, stdout, stderr } = await box.rlhf(["train", relative(box.directory, file)], {
      timeoutMs: 120_000,
    });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /tuned \[good\] +[\d.-]+/);
    assert.deepEqual(box.processes(), [], "no process is left");
    const listed = JSON.parse((await box.rlhf(["runs", "list", "--json"])).stdout) as { state: string }[];
    assert.equal(listed[0]?.state, "finished");
  });

  it("start a reward service that answers the request that they show", async () => {
    const box = sandbox();
    const models = await tinyModels();
    const [serve, call] = commands(readme).slice(-2) as [string[], string[]];
    assert.deepEqual(serve.slice(0, 3), ["rlhf", "serve", "reward"]);
    cpSync(models.reward, box.path(serve[serve.indexOf("--model") + 1] as string), { recursive: true });
    const at = serve.indexOf("--listen") + 1;
    const flags = serve.slice(3).map((word, i) => (i + 3 === at ? "127.0.0.1:0" : word));
    assert.equal(serve[at], call.at(-2), "grpcurl calls the address that is served");
    const server = await box.serve("reward", flags);
    const request = fromJsonString(ScoreRequestSchema, call[call.indexOf("-d") + 1] as string);
    const { results } = await box.client(RewardService, server.address).score(request);
    assert.equal(results.length, request.texts.length);
    assert.ok(Number.isFinite(results[0]?.reward));
  });
});
