import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { packageRoot } from "../config/package-root.js";
import { DatasetError } from "./errors.js";
import { readRows } from "./rows.js";
import { readTable } from "./table.js";

const QA = { question: "text", answer: "text" } as const;

describe("reading rows", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "rows-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  const write = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const refuses = async (
    name: string,
    content: string | Uint8Array,
    message: string | RegExp,
    schema: object = QA,
  ) => {
    await assert.rejects(readRows(write(name, content), schema as typeof QA), (error: unknown) => {
      assert.ok(error instanceof DatasetError, String(error));
      assert.equal(error.code, "DATASET_INVALID");
      const text = error.message.replace(`${folder}/`, "");
      if (typeof message === "string") assert.equal(text, message);
      else assert.match(text, message);
      return true;
    });
  };

  it("takes quotes, line breaks, a byte order mark and Windows line ends out of CSV", async () => {
    const file = write(
      "a.csv",
      '\ufeffquestion,answer,more\r\n"what, now?","a ""quoted""\nanswer",x\r\n\r\nwhy?,“so”,\r\n',
    );
    assert.deepEqual(await readRows(file, QA), [
      { question: "what, now?", answer: 'a "quoted"\nanswer' },
      { question: "why?", answer: "“so”" },
    ]);
    assert.deepEqual((await readTable(file)).columns, ["question", "answer", "more"]);
    assert.deepEqual(await readRows(write("a.tsv", "question\tanswer\nq, r\ta\n"), QA), [
      { question: "q, r", answer: "a" },
    ]);
  });

  it("reads JSON Lines, JSON and Parquet alike", async () => {
    const rows = [{ question: "q", answer: "a" }];
    assert.deepEqual(
      await readRows(write("a.jsonl", '\n{"question":"q","answer":"a","x":[1]}\n\n'), QA),
      rows,
    );
    assert.deepEqual(await readRows(write("a.json", '[{"question":"q","answer":"a"}]'), QA), rows);
    const parquet = join(packageRoot(), "lib/dataset/fixtures/rows.parquet");
    assert.deepEqual(
      await readRows(parquet, { answer: "text", label: "integer", score: "number", question: "text?" }),
      [
        {
          answer: "bring any letter with your address.",
          label: 1,
          score: 0.5,
          question: "how do i join the library?",
        },
        { answer: "at nine, six days a week.", label: 0, score: 1.25, question: "when does it open?" },
        { answer: "ask at the desk — “anyone” can help.", label: 1, score: -2, question: "" },
      ],
    );
    await assert.rejects(
      readRows(parquet, QA),
      /rows.parquet: row 3, column question: expected text, found nothing/,
    );
  });

  it("converts numbers, and names the row and column of what is none", async () => {
    const labels = { response: "text", label: "integer" } as const;
    const file = write("l.csv", "response,label\nyes,1\nno, 0 \n12,-3\n");
    assert.deepEqual(
      (await readRows(file, labels)).map(({ label }) => label),
      [1, 0, -3],
    );
    await refuses(
      "l.csv",
      "response,label\nyes,1\nno,good\n",
      'l.csv: row 2 (line 3), column label: expected a whole number, found "good"',
      labels,
    );
    await refuses(
      "l.csv",
      "response,label\nno,\n",
      "l.csv: row 1 (line 2), column label: expected a whole number, found nothing",
      labels,
    );
    await refuses(
      "l.csv",
      "response,label\nno,1.5\n",
      /column label: expected a whole number, found "1.5"/,
      labels,
    );
    await refuses(
      "l.jsonl",
      '{"response":"x","label":{}}',
      /row 1 \(line 1\), column label: expected a whole number, found {}/,
      labels,
    );
  });

  it("names what is wrong with a file", async () => {
    await refuses("a.csv", "", "a.csv: expected a header row, found an empty file");
    await refuses("a.csv", "question,answer\n", "a.csv: expected at least one row, found none");
    await refuses(
      "a.csv",
      "question,reply\nq,a\n",
      "a.csv: column answer: expected a column of that name, found question, reply",
    );
    await refuses(
      "a.csv",
      "question,question\nq,a\n",
      "a.csv: column question: expected each column once, found it twice",
    );
    await refuses("a.csv", "question,,answer\nq,a,b\n", "a.csv: expected a name for column 2, found nothing");
    await refuses(
      "a.csv",
      "question,answer\nq,a\nonly\n",
      "a.csv: row 2 (line 3): expected 2 fields (question, answer), found 1",
    );
    await refuses(
      "a.csv",
      "question,answer\nq,a\nq, \n",
      'a.csv: row 2 (line 3), column answer: expected text, found " "',
    );
    await refuses("a.csv", 'question,answer\nq,"a\n', /a.csv.*: expected well-formed CSV, found/);
    await refuses(
      "a.csv",
      Buffer.from([0x71, 0xff, 0x0a]),
      "a.csv: expected UTF-8 text, found bytes that are not UTF-8",
    );
    await refuses(
      "a.jsonl",
      '{"question":"q","answer":"a"}\n{"question"\n',
      /^a.jsonl: row 2 \(line 2\): expected valid JSON/,
    );
    await refuses("a.jsonl", "[1]\n", "a.jsonl: row 1 (line 1): expected a JSON object, found an array");
    await refuses("a.json", "{}", "a.json: expected an array of objects, found an object");
    await refuses("a.parquet", "PAR1 not really PAR1", /a.parquet: expected a readable Parquet file/);
    await refuses("a.xlsx", "", /expected an extension of .csv, .tsv, .jsonl/);
    await assert.rejects(
      readRows(join(folder, "none.csv"), QA),
      /none.csv: expected a readable file, found no such file/,
    );
    await assert.rejects(readRows(join(folder, "none.parquet"), QA), /none.parquet: .* found no such file/);
  });

  it("brings back any text that was written as CSV", async () => {
    const cell = fc.string({ unit: "grapheme" }).filter((text) => !text.includes("\r"));
    const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 5 }), async (rows) => {
        const lines = [["a", "b"], ...rows].map((row) => row.map(quoted).join(","));
        const read = await readRows(write("p.csv", `${lines.join("\n")}\n`), { a: "text?", b: "text?" });
        assert.deepEqual(
          read.map(({ a, b }) => [a, b]),
          rows,
        );
      }),
      { numRuns: 100 },
    );
  });

  it("meets mutated files with a DatasetError or rows, nothing else", async () => {
    const parquet = readFileSync(join(packageRoot(), "lib/dataset/fixtures/rows.parquet"));
    const sources: [string, Buffer][] = [
      ["m.csv", Buffer.from('question,answer\n"a, b",c\nd,"e ""f"""\n')],
      ["m.jsonl", Buffer.from('{"question":"a","answer":"b"}\n{"question":"c","answer":"d"}\n')],
      ["m.parquet", parquet],
    ];
    const edits = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 5 });
    for (const [name, sound] of sources) {
      await fc.assert(
        fc.asyncProperty(edits, fc.option(fc.nat(sound.length)), async (changes, length) => {
          const bytes = Buffer.from(sound);
          for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
          const file = write(name, bytes.subarray(0, length ?? undefined));
          await readRows(file, QA).catch((error: unknown) =>
            assert.ok(error instanceof DatasetError, String(error)),
          );
        }),
        { numRuns: 200 },
      );
    }
  });
});
