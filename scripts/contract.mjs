#!/usr/bin/env node
/**
 * @file Keeps proto/rlhf compatible with the last release, whose descriptors lie in proto/released as a buf image in JSON.
 *
 *   node scripts/contract.mjs             exit 1 and what is broken, if clients of the last release could not go on
 *   node scripts/contract.mjs --release   the same, then makes today's contract that of package.json's version
 *
 * Fields, methods and services are added, never changed or removed; what must change gets a package of its own (`v2`).
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const released = "proto/released";

function buf(...args) {
  const result = spawnSync(join(root, "node_modules/.bin/buf"), args, { cwd: root, encoding: "utf8" });
  if (result.error) throw result.error;
  return result;
}

/** Images in proto/released: one, that of the last release. */
function images() {
  return readdirSync(join(root, released)).filter((name) => /^v\d+\.\d+\.\d+.*\.json$/.test(name));
}

/** Whether every client of the last release can go on; says what stands in the way. */
function isCompatible() {
  const [image, ...others] = images();
  if (image === undefined || others.length > 0) {
    console.error(`${released}: expected one image vX.Y.Z.json, found ${images().join(", ") || "none"}`);
    return false;
  }
  const { status, stdout, stderr } = buf("breaking", "--against", `${released}/${image}`);
  if (status === 0) return true;
  console.error(`proto/rlhf breaks clients of ${image.slice(0, -".json".length)}:\n${stdout}${stderr}`);
  return false;
}

/** Writes today's contract as that of package.json's version, one property a line so that a change can be read. */
function release() {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const image = buf("build", "proto", "--path", "proto/rlhf", "--exclude-source-info", "-o", "-#format=json");
  if (image.status !== 0) throw new Error(`buf build: ${image.stderr}`);
  mkdirSync(join(root, released), { recursive: true });
  for (const name of images()) rmSync(join(root, released, name));
  const name = `v${version}.json`;
  writeFileSync(join(root, released, name), `${JSON.stringify(JSON.parse(image.stdout), null, 1)}\n`);
  console.log(`${released}/${name} is the contract of the last release`);
}

const compatible = isCompatible();
if (!compatible) process.exitCode = 1;
else if (process.argv.includes("--release")) release();
