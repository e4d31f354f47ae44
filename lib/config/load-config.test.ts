import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import {
  bytes,
  ConfigError,
  type ConfigSources,
  duration,
  environmentNames,
  formatBytes,
  formatDuration,
  loadConfig,
  maskSecrets,
  parseBytes,
  parseConfig,
  parseDuration,
  secret,
} from "./index.js";
import { runReadmeExample } from "./readme-example.js";

const term = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("classifier"), label: z.string(), weight: z.number().default(1) }),
  z.object({ kind: z.literal("length"), target: z.number().int().positive() }),
]);

const schema = z.object({
  device: z.enum(["cpu", "cuda"]).default("cpu"),
  listen: z.string().min(1).default("127.0.0.1:0"),
  pinned: z.boolean().default(false),
  token: secret().optional(),
  layer: z.number().int().nullable().optional(),
  addresses: z.array(z.string()).default([]),
  terms: z.array(term).default([]),
  labels: z.record(z.string(), z.number()).default({}),
  ppo: z
    .object({
      gamma: z.number().min(0).max(1).default(1),
      batchSize: z.number().int().min(1).default(64),
      minibatchSize: z.number().int().min(1).default(8),
      timeoutMs: duration({ min: 100, max: 60_000 }).default(10_000),
      chunkBytes: bytes().default(1024),
    })
    .superRefine((ppo, context) => {
      if (ppo.batchSize % ppo.minibatchSize !== 0) {
        context.addIssue({
          code: "custom",
          path: ["minibatchSize"],
          message: `${ppo.minibatchSize} does not divide batchSize ${ppo.batchSize}`,
        });
      }
    })
    .prefault({}),
});

function problemsOf(sources: ConfigSources, of: z.ZodType = schema): readonly string[] {
  try {
    loadConfig(of, sources);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    assert.equal(error.code, "CONFIG_INVALID");
    for (const line of error.problems) assert.ok(error.message.includes(line));
    return error.problems;
  }
  throw new Error("the configuration was accepted");
}

describe("loadConfig", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "config-"));
  });
  after(() => rmSync(folder, { recursive: true }));
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };

  it("lets flags win over the environment, the environment over the file, the file over defaults", () => {
    const file = write("a.yaml", "listen: from-file\ndevice: cuda\nppo:\n  gamma: 0.5\n  batchSize: 16\n");
    const config = loadConfig(schema, {
      defaults: { listen: "from-defaults", addresses: ["a"], ppo: { gamma: 0.1, chunkBytes: 7 } },
      file,
      env: {
        prefix: "RLHF_",
        variables: { RLHF_PPO_GAMMA: "0.9", RLHF_DEVICE: "cpu", RLHF_ORT_BINDING: "node", PATH: "/" },
      },
      flags: { ppo: { batchSize: 32 }, device: undefined, "ppo.minibatchSize": "16" },
    });
    assert.equal(config.listen, "from-file");
    assert.equal(config.device, "cpu");
    assert.deepEqual(config.addresses, ["a"]);
    assert.deepEqual(config.ppo, {
      gamma: 0.9,
      batchSize: 32,
      minibatchSize: 16,
      timeoutMs: 10_000,
      chunkBytes: 7,
    });
  });

  it("freezes the result at every depth", () => {
    const config = loadConfig(schema, { flags: { terms: [{ kind: "length", target: 3 }] } });
    assert.ok(Object.isFrozen(config));
    assert.ok(Object.isFrozen(config.ppo));
    assert.ok(Object.isFrozen(config.terms[0]));
  });

  it("lists every problem at once, each with path, value, what is accepted and where it came from", () => {
    const file = write("b.yaml", "device: tpu\nppo:\n  gamma: 1.5\n  gama: 1\n  batchSize: 2.5\n");
    const problems = problemsOf({
      file,
      env: { prefix: "RLHF_", variables: { RLHF_PINNED: "maybe", RLHF_PPO_TIMEOUT_MS: "2h" } },
      flags: { listen: "", adresses: "x" },
    });
    assert.deepEqual([...problems].sort(), [
      'adresses: unknown key → did you mean "addresses"? (flag adresses)',
      `device: "tpu" → one of "cpu", "cuda" (${file})`,
      'listen: "" → text that is not empty (flag listen)',
      'pinned: "maybe" → true or false (environment RLHF_PINNED)',
      `ppo.batchSize: 2.5 → a whole number of at least 1 (${file})`,
      `ppo.gama: unknown key → did you mean "gamma"? (${file})`,
      `ppo.gamma: 1.5 → a number from 0 to 1 (${file})`,
      'ppo.timeoutMs: "2h" → a duration such as 250ms, 10s or 5m, at least 100 ms and at most 1 min (environment RLHF_PPO_TIMEOUT_MS)',
    ]);
  });

  it("names the fields of a cross-field rule", () => {
    assert.deepEqual(problemsOf({ flags: { "ppo.minibatchSize": "24" } }), [
      "ppo.minibatchSize: 24 does not divide batchSize 64 (flag ppo.minibatchSize)",
    ]);
  });

  it("says missing for a required value that nobody gave", () => {
    const required = z.object({ model: z.string().min(1), n: z.number().int().min(1).max(4) });
    assert.deepEqual(problemsOf({}, required), [
      "model: missing → text that is not empty",
      "n: missing → a whole number from 1 to 4",
    ]);
  });

  it("checks keys inside lists of tagged objects by their tag", () => {
    const problems = problemsOf({
      flags: {
        terms: [
          { kind: "classifier", label: "x", wieght: 2 },
          { kind: "length", target: 0 },
          { kind: "size" },
        ],
      },
    });
    assert.deepEqual([...problems].sort(), [
      'terms[0].wieght: unknown key → did you mean "weight"? (flag terms)',
      "terms[1].target: 0 → a whole number greater than 0 (flag terms)",
      'terms[2].kind: "size" → one of "classifier", "length" (flag terms)',
    ]);
  });

  it("reads lists, records and nulls from environment text", () => {
    const config = loadConfig(schema, {
      env: {
        prefix: "X_",
        variables: {
          X_ADDRESSES: "a:1, b:2",
          X_LABELS: '{"good": 1}',
          X_LAYER: "null",
          X_TERMS: '[{"kind":"length","target":3}]',
          X_PPO_CHUNK_BYTES: "512KiB",
          X_PPO_TIMEOUT_MS: "1500",
        },
      },
    });
    assert.deepEqual(config.addresses, ["a:1", "b:2"]);
    assert.deepEqual(config.labels, { good: 1 });
    assert.equal(config.layer, null);
    assert.deepEqual(config.terms, [{ kind: "length", target: 3 }]);
    assert.equal(config.ppo.chunkBytes, 524_288);
    assert.equal(config.ppo.timeoutMs, 1500);
  });

  it("refuses a variable that nearly matches a name, and lets other programs' variables be", () => {
    const variables = { RLHF_PPO_GAMA: "1", RLHF_SOMETHING_ELSE_ENTIRELY: "1" };
    assert.deepEqual(problemsOf({ env: { prefix: "RLHF_", variables } }), [
      "RLHF_PPO_GAMA: unknown variable → did you mean RLHF_PPO_GAMMA?",
    ]);
  });

  it("refuses a missing file, broken YAML, broken JSON and a file that is no object", () => {
    assert.match(
      problemsOf({ file: join(folder, "none.yaml") })[0],
      /none\.yaml: ENOENT.* → a readable YAML or JSON file/,
    );
    assert.match(
      problemsOf({ file: write("c.yaml", "a: [1\nb: 2") })[0],
      /c\.yaml: .*line \d.* → valid YAML/,
    );
    assert.match(
      problemsOf({ file: write("d.yaml", "device: cpu\ndevice: cuda") })[0],
      /unique.* → valid YAML/,
    );
    assert.match(problemsOf({ file: write("e.json", "{,}") })[0], /e\.json: .*JSON.* → valid JSON/);
    assert.match(
      problemsOf({ file: write("f.yaml", "- 1") })[0],
      /f\.yaml: a list of 1 → an object with device/,
    );
  });

  it("takes an empty file and an empty section as nothing given", () => {
    assert.equal(loadConfig(schema, { file: write("g.yaml", "# nothing\n") }).ppo.gamma, 1);
    assert.equal(loadConfig(schema, { file: write("h.yaml", "ppo:\n  # gamma: 2\n") }).ppo.gamma, 1);
  });

  it("is not fooled by __proto__", () => {
    const file = write("i.json", '{"__proto__": {"polluted": 1}}');
    assert.deepEqual(problemsOf({ file }).length, 1);
    assert.equal(({} as Record<string, unknown>).polluted, undefined);
  });

  it("never prints a secret in an error line", () => {
    const strict = z.object({ token: secret().regex(/^x/), url: z.url({ protocol: /^nats$/ }) });
    const problems = problemsOf({ flags: { token: "hunter2", url: "http://joe:hunter2@host" } }, strict);
    assert.equal(problems.length, 2);
    assert.ok(!problems.join().includes("hunter2"), problems.join());
  });

  it("lists the environment variable of every leaf", () => {
    const names = environmentNames(schema, "RLHF_");
    assert.ok(
      names.some(
        ([variable, path]) => variable === "RLHF_PPO_MINIBATCH_SIZE" && path === "ppo.minibatchSize",
      ),
    );
  });

  it("checks a value that is already there", () => {
    assert.equal(parseConfig(schema, { device: "cuda" }).device, "cuda");
    assert.throws(() => parseConfig(schema, [], "init message"), /init message: a list of 0 → an object/);
    assert.throws(
      () => parseConfig(schema, { divice: "cuda" }),
      /divice: unknown key → did you mean "device"\?/,
    );
  });
});

describe("maskSecrets", () => {
  it("hides values marked secret, keys that name secrets and passwords in URLs, and nothing else", () => {
    const config = {
      token: "a",
      authTokensFile: "/etc/tokens",
      maxTokens: 8,
      nats: "nats://joe:word@host:4222",
      nested: [{ apiKey: "b", name: "n" }],
    };
    assert.deepEqual(maskSecrets(config), {
      token: "***",
      authTokensFile: "/etc/tokens",
      maxTokens: 8,
      nats: "nats://joe:***@host:4222",
      nested: [{ apiKey: "***", name: "n" }],
    });
    assert.deepEqual(
      maskSecrets({ hidden: "x", open: "y" }, z.object({ hidden: secret(), open: z.string() })),
      {
        hidden: "***",
        open: "y",
      },
    );
    assert.equal(config.token, "a");
  });
});

describe("durations and sizes", () => {
  it("parse what people write", () => {
    assert.equal(parseDuration("250ms"), 250);
    assert.equal(parseDuration("1h30m"), 5_400_000);
    assert.equal(parseDuration("1.5 s"), 1500);
    assert.equal(parseDuration("soon"), undefined);
    assert.equal(parseBytes("512KiB"), 524_288);
    assert.equal(parseBytes("16 MB"), 16_000_000);
    assert.equal(parseBytes("16"), undefined);
    assert.equal(parseBytes("1 ib"), undefined);
  });

  it("print what people read", () => {
    assert.equal(formatDuration(250), "250 ms");
    assert.equal(formatDuration(90_000), "1.5 min");
    assert.equal(formatBytes(524_288), "512 KiB");
  });
});

describe("lib/config/README.md", () => {
  it("opens with an example that runs", async () => {
    const { config } = await runReadmeExample("lib/config");
    assert.deepEqual(config, { listen: "127.0.0.1:7000", ppo: { gamma: 0.99, timeoutMs: 10_000 } });
  });
});
