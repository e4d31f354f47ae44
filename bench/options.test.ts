import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { basename } from "node:path";
import { parseCommandLine, UsageError } from "./options.js";

const KNOWN = ["gemm", "learner"];
const parse = (...argv: string[]) => parseCommandLine(argv, KNOWN);

describe("the command line of the suite", () => {
  it("runs everything on all cores by default, and keeps the results", () => {
    const { names, options, out, peers } = parse();
    assert.deepEqual(names, KNOWN);
    assert.equal(options.threads, availableParallelism());
    assert.equal(basename(out!), "results");
    assert.equal(peers, undefined);
  });

  it("keeps nothing of a quick run unless told where", () => {
    assert.equal(parse("--quick").out, undefined);
    assert.equal(basename(parse("--quick", "--out", "/tmp/here").out!), "here");
  });

  it("names what it does not know and what it accepts", () => {
    const refused = (argv: string[], message: RegExp) =>
      assert.throws(
        () => parse(...argv),
        (error) => error instanceof UsageError && message.test(error.message),
      );
    refused(["lerner"], /lerner: no such benchmark → gemm, learner/);
    refused(["--threads", "0"], /--threads: 0 → a whole number from 1/);
    refused(["--device", "tpu"], /--device: tpu → one of cpu, cuda, webgpu/);
    refused(["--quik"], /--quik/);
  });
});
