import assert from "node:assert/strict";
import { z } from "zod";
import { describeFlags, modelFields, parseServiceArgs, serviceSchema } from "./service-config.js";

const schema = serviceSchema({ ...modelFields, label: z.string().optional() });
const parse = (...argv: string[]) => parseServiceArgs("reward", argv, schema);

describe("a service's command line", () => {
  it("fills in defaults and turns flags into their kinds", () => {
    const config = parse(
      "--model",
      "m",
      "--threads",
      "3",
      "--insecure",
      "--drain-withdraw",
      "5s",
      "--admin-listen=[::1]:0",
    );
    assert.deepEqual(
      [config.model, config.threads, config.insecure, config.drainWithdraw, config.adminListen],
      ["m", 3, true, 5000, "[::1]:0"],
    );
    assert.deepEqual([config.listen, config.device, config.reflection], ["127.0.0.1:0", "cpu", "open"]);
  });

  const refused: [string, string[], RegExp][] = [
    ["a missing model", [], /model: missing/],
    [
      "an unknown flag, with the nearest known one",
      ["--model", "m", "--lable", "x"],
      /lable: .*did you mean "label"/,
    ],
    ["an unknown device", ["--model", "m", "--device", "tpu"], /device: .*cpu/],
    ["a number that is none", ["--model", "m", "--threads", "many"], /threads/],
    ["an argument that is no flag", ["--model", "m", "extra"], /extra: unexpected argument/],
    [
      "a certificate without its key",
      ["--model", "m", "--tls-cert", "c.pem"],
      /--tls-cert and --tls-key go together/,
    ],
    [
      "client authorities without TLS",
      ["--model", "m", "--tls-client-ca", "ca.pem"],
      /tlsClientCa.*needs --tls-cert/,
    ],
    ["a configuration file without a path", ["--model", "m", "--config"], /--config/],
  ];
  for (const [name, argv, message] of refused) {
    it(`refuses ${name}`, () => {
      assert.throws(() => parse(...argv), message);
    });
  }

  it("reads the environment under the service's name, below flags", () => {
    process.env.RLHF_REWARD_LOG_LEVEL = "debug";
    process.env.RLHF_REWARD_THREADS = "5";
    try {
      const { logLevel, threads } = parse("--model", "m", "--threads", "2");
      assert.deepEqual([logLevel, threads], ["debug", 2]);
    } finally {
      delete process.env.RLHF_REWARD_LOG_LEVEL;
      delete process.env.RLHF_REWARD_THREADS;
    }
  });

  it("describes every flag", () => {
    const text = describeFlags(schema);
    for (const flag of ["--listen", "--tls-client-ca", "--drain-withdraw", "--model", "--config"]) {
      assert.match(text, new RegExp(`^  ${flag} +\\S`, "m"));
    }
  });
});
