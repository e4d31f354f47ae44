import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32c, maskedCrc32c } from "./crc32c.js";
import { EventFile } from "./event-file.js";
import { readEvents, readScalars } from "./testing.js";

describe("TensorBoard", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "rlhf-tensorboard-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  describe("the checksum of event files", () => {
    it("is CRC-32C: the vectors of RFC 3720 B.4", () => {
      assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
      assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
      assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
      assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
    });

    it("is masked as TFRecord says: rotated right by 15, plus 0xa282ead8", () => {
      const crc = 0xe3069283;
      const rotated = ((crc >>> 15) | (crc << 17)) >>> 0;
      assert.equal(maskedCrc32c(Buffer.from("123456789")), (rotated + 0xa282ead8) % 2 ** 32);
    });
  });

  describe("TensorBoard event files", () => {
    it("are read back by a reader that shares nothing with the writer", () => {
      const file = new EventFile(folder);
      file.step(1, { "ppo/loss/total": 0.5, "objective/kl": -1.25 });
      file.step(300, { "ppo/loss/total": 3e-8, "ppo/val/var_explained": Number.NaN, größe: 1 });
      file.close();
      const [version, first, second, ...more] = readEvents(file.path);
      assert.deepEqual(more, []);
      assert.equal(version?.fileVersion, "brain.Event:2");
      assert.equal(version?.restart, false);
      assert.equal(first?.step, 1);
      assert.ok(Math.abs((first?.wallTime ?? 0) - Date.now() / 1000) < 60);
      assert.deepEqual(
        [...(first?.values ?? [])],
        [
          ["ppo/loss/total", 0.5],
          ["objective/kl", -1.25],
        ],
      );
      assert.equal(second?.step, 300);
      assert.deepEqual(
        [...(second?.values ?? [])],
        [
          ["ppo/loss/total", Math.fround(3e-8)],
          ["ppo/val/var_explained", Number.NaN],
          ["größe", 1],
        ],
      );
    });

    it("have names in the order that they were begun, as TensorBoard reads them", () => {
      const paths = Array.from({ length: 3 }, () => {
        const file = new EventFile(folder);
        file.close();
        return file.path;
      });
      assert.deepEqual([...paths].sort(), paths);
      assert.match(readdirSync(folder)[0] as string, /^events\.out\.tfevents\.\d{10}\./);
    });

    it("of a resumed run drop the steps after the checkpoint, so that no step stands twice", () => {
      const first = new EventFile(folder);
      for (const step of [1, 2, 3]) first.step(step, { loss: step });
      first.close();
      const second = new EventFile(folder, { purgeFrom: 2 });
      for (const step of [2, 3, 4]) second.step(step, { loss: step * 10 });
      second.close();
      assert.deepEqual(
        [...(readScalars(folder).get("loss") ?? [])],
        [
          [1, 1],
          [2, 20],
          [3, 30],
          [4, 40],
        ],
      );
    });

    it("keep every step before the one that a crash cut short", () => {
      const file = new EventFile(folder);
      for (const step of [1, 2]) file.step(step, { loss: step });
      file.close();
      truncateSync(file.path, readFileSync(file.path).length - 3);
      const after = new EventFile(folder, { purgeFrom: 2 });
      after.step(2, { loss: 2 });
      after.close();
      assert.deepEqual(
        [...(readScalars(folder).get("loss") ?? [])],
        [
          [1, 1],
          [2, 2],
        ],
      );
    });

    it("show a flipped bit as a wrong checksum", () => {
      const file = new EventFile(folder);
      file.step(1, { loss: 1 });
      file.close();
      const bytes = readFileSync(file.path);
      bytes[bytes.length - 6] = (bytes[bytes.length - 6] as number) ^ 1;
      writeFileSync(file.path, bytes);
      assert.throws(() => readEvents(file.path), /wrong checksum/);
    });
  });
});
