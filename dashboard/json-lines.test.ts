import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { JsonLinesFollower } from "./json-lines.js";

describe("JSON lines", () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "rlhf-follow-"));
    path = join(folder, "metrics.jsonl");
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  describe("a followed file of JSON lines", () => {
    it("gives what is there, then what comes, and holds a half-written line back", async () => {
      const follower = new JsonLinesFollower(path);
      assert.deepEqual(await follower.read(), { reset: true, values: [] }, "no file yet");
      writeFileSync(path, '{"step":1}\n{"step":2}\n{"st');
      assert.deepEqual(await follower.read(), { reset: false, values: [{ step: 1 }, { step: 2 }] });
      appendFileSync(path, 'ep":3}\n');
      assert.deepEqual(await follower.read(), { reset: false, values: [{ step: 3 }] });
      assert.deepEqual(await follower.read(), { reset: false, values: [] });
    });

    it("begins again when the file was cut, as a resumed run does", async () => {
      const follower = new JsonLinesFollower(path);
      writeFileSync(path, '{"step":1}\n{"step":2}\n');
      await follower.read();
      writeFileSync(path, '{"step":1}\n');
      assert.deepEqual(await follower.read(), { reset: true, values: [{ step: 1 }] });
    });

    it("begins again when the file was cut and has grown past its place since", async () => {
      const follower = new JsonLinesFollower(path);
      writeFileSync(path, '{"step":1,"time":1}\n{"step":2,"time":2}\n');
      await follower.read();
      writeFileSync(path, '{"step":1,"time":1}\n{"step":2,"time":9}\n{"step":3,"time":3}\n');
      const { reset, values } = await follower.read();
      assert.ok(reset);
      assert.equal(values.length, 3);
    });

    it("gives large files in parts, long lines whole, and leaves out what is no JSON", async () => {
      const follower = new JsonLinesFollower(path);
      const long = JSON.stringify({ text: "x".repeat(3 << 20) });
      writeFileSync(path, `not json\n{"a":1}\n${long}\n{"b":2}\n`);
      const values: unknown[] = [];
      for (let part = await follower.read(); part.values.length > 0; part = await follower.read()) {
        values.push(...part.values);
      }
      assert.deepEqual(values, [{ a: 1 }, JSON.parse(long), { b: 2 }]);
    });
  });
});
