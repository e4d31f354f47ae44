/**
 * @file Weights through a folder, for runs without NATS: on one machine, or on a file system that several share.
 *
 *   <folder>/<run>/<model>/objects/<version>-<digest>.safetensors   written beside, synced and renamed
 *   <folder>/<run>/<model>/heads/<version, 15 digits>.json          the highest one is the head
 *   <folder>/<run>/<model>/status/<instance>.json                   written beside and renamed
 *
 * Compare-and-set without a lock that a dying process could leave behind: a head file is made by hard-linking a finished one to the name of
 * its version, which fails when that version exists; the highest name wins, so a head can only rise.
 */
import { randomBytes } from "node:crypto";
import { watch } from "node:fs";
import { link, mkdir, open, readdir, readFile, rename, rm, stat, unlink, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Log } from "../telemetry/index.js";
import type { BusOptions, ServerStatus } from "./bus.js";
import { BusAddressError, BusUnavailableError, WeightsCorruptError, WeightsGoneError } from "./errors.js";
import { parseManifest, safeName, versionOfObject, type WeightsManifest } from "./manifest.js";
import type { StoredObject } from "./retention.js";
import type { HeadEntry, Transport } from "./transport.js";
import { Bell, keepDoing } from "./waiting.js";

/** Bytes read at a time. */
const READ_BYTES = 4 << 20;

/** Head files kept behind the head, for people who look. */
const OLD_HEADS = 4;

/** Transport over a folder. */
export class FileTransport implements Transport {
  readonly kind = "file";
  readonly address: string;
  readonly destination: string;
  readonly #run: string;
  readonly #heads: string;
  readonly #status: string;
  readonly #pollMs: number;
  readonly #statusTtlMs: number;
  readonly #log: Log;

  private constructor(folder: string, { run, model, pollMs, statusTtlMs }: BusOptions, log: Log) {
    const root = join(folder, safeName(run), safeName(model));
    this.address = `file:${folder}`;
    this.#run = run;
    this.destination = join(root, "objects");
    this.#heads = join(root, "heads");
    this.#status = join(root, "status");
    this.#pollMs = pollMs ?? 500;
    this.#statusTtlMs = statusTtlMs ?? 60_000;
    this.#log = log;
  }

  /** Makes the folders that are not there. */
  static async open(url: string, options: BusOptions, log: Log): Promise<FileTransport> {
    const transport = new FileTransport(folderOf(url), options, log);
    await transport.#do("open", async () => {
      for (const folder of [transport.destination, transport.#heads, transport.#status]) {
        await mkdir(folder, { recursive: true });
      }
    });
    return transport;
  }

  async head(): Promise<HeadEntry | undefined> {
    const [newest] = await this.#headNames();
    if (newest === undefined) return undefined;
    const path = join(this.#heads, newest);
    const text = await this.#do("read the head", () => readFile(path, "utf8"));
    const manifest = parseManifest(text, path);
    if (headName(manifest.version) !== newest) {
      throw new WeightsCorruptError({
        object: path,
        expected: `version ${Number.parseInt(newest, 10)}`,
        found: `${manifest.version}`,
      });
    }
    return { manifest, revision: manifest.version };
  }

  async moveHead(manifest: WeightsManifest, revision: unknown): Promise<boolean> {
    return this.#do("move the head", async () => {
      const [newest] = await this.#headNames();
      if (newest !== (revision === undefined ? undefined : headName(revision as number))) return false;
      const name = headName(manifest.version);
      const draft = join(this.#heads, `.${name}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`);
      try {
        await writeSynced(draft, [Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`)]);
        await link(draft, join(this.#heads, name));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
        throw error;
      } finally {
        await rm(draft, { force: true });
      }
      const names = await this.#headNames();
      if (names[0] !== name) {
        // a newer version came while ours did: it stays the head, ours never was
        await rm(join(this.#heads, name), { force: true });
        return false;
      }
      await syncFolder(this.#heads);
      for (const old of names.slice(1 + OLD_HEADS)) await rm(join(this.#heads, old), { force: true });
      return true;
    });
  }

  async put(
    manifest: WeightsManifest,
    bytes: () => Iterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<void> {
    const path = this.#pathOf(manifest.object);
    await this.#do(`write ${manifest.object}`, async () => {
      if ((await sizeOf(path)) === manifest.bytes) return; // same version, same digest: written before
      const draft = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
      try {
        await writeSynced(draft, bytes(), signal);
        await rename(draft, path);
      } catch (error) {
        await rm(draft, { force: true });
        throw error;
      }
      await syncFolder(this.destination);
    });
  }

  async *read(manifest: WeightsManifest, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    const path = this.#pathOf(manifest.object);
    const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") throw new WeightsGoneError(manifest.object, "when opening it");
      throw new BusUnavailableError(this.address, `open ${manifest.object}`, error);
    });
    try {
      const { size } = await file.stat();
      if (size !== manifest.bytes) {
        const expected = `${manifest.bytes} bytes`;
        throw new WeightsCorruptError({
          object: path,
          version: manifest.version,
          expected,
          found: `${size} bytes`,
        });
      }
      const buffer = new Uint8Array(Math.min(READ_BYTES, size));
      for (let at = 0; at < size && !signal.aborted; ) {
        const { bytesRead } = await file
          .read(buffer, 0, Math.min(buffer.length, size - at), at)
          .catch((cause) => {
            throw new BusUnavailableError(this.address, `read ${manifest.object}`, cause);
          });
        if (bytesRead === 0) return; // cut short while we read: the reader sees the length
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  }

  async deleteObject(object: string): Promise<void> {
    await this.#do(`delete ${object}`, () => rm(this.#pathOf(object), { force: true }));
  }

  async removeLeftovers(olderThanMs: number): Promise<void> {
    await this.#do("remove leftovers", async () => {
      for (const folder of [this.destination, this.#heads, this.#status]) {
        for (const name of await readdir(folder)) {
          const path = join(folder, name);
          const info = name.endsWith(".tmp") && (await stat(path).catch(() => undefined));
          if (info && Date.now() - info.mtimeMs >= olderThanMs) await rm(path, { force: true });
        }
      }
    });
  }

  async listObjects(): Promise<StoredObject[]> {
    return this.#do("list objects", async () => {
      const found: StoredObject[] = [];
      for (const name of await readdir(this.destination)) {
        const stem = /^(\d{1,15}-[0-9a-f]{16})\.safetensors$/.exec(name)?.[1];
        const info = stem && (await stat(join(this.destination, name)).catch(() => undefined));
        if (!stem || !info) continue;
        const object = `${this.#run}/${stem}`;
        found.push({ object, version: versionOfObject(object)!, size: info.size, writtenAt: info.mtimeMs });
      }
      return found;
    });
  }

  async watchHead(onHead: (manifest: WeightsManifest) => void, signal: AbortSignal): Promise<void> {
    let lastTrouble = "";
    await this.#watchFolder(this.#heads, signal, async () => {
      try {
        const entry = await this.head();
        lastTrouble = "";
        if (entry) onHead(entry.manifest);
      } catch (err) {
        if ((err as Error).message !== lastTrouble)
          this.#log.error({ err }, "the head of the weights cannot be read");
        lastTrouble = (err as Error).message;
      }
    });
  }

  async putStatus(status: ServerStatus): Promise<void> {
    await this.#do("write a status", async () => {
      const path = join(this.#status, `${safeName(status.instance)}.json`);
      const draft = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
      await writeFile(draft, JSON.stringify(status));
      await rename(draft, path);
    });
  }

  async statuses(): Promise<ServerStatus[]> {
    return this.#do("read statuses", async () => {
      const found: ServerStatus[] = [];
      for (const name of await readdir(this.#status)) {
        if (!name.endsWith(".json")) continue;
        const path = join(this.#status, name);
        try {
          const { mtimeMs } = await stat(path);
          if (Date.now() - mtimeMs <= this.#statusTtlMs) {
            found.push(JSON.parse(await readFile(path, "utf8")) as ServerStatus);
          } else if (Date.now() - mtimeMs > 10 * this.#statusTtlMs) {
            await unlink(path); // a server that is long gone
          }
        } catch (err) {
          if ((err as NodeJS.ErrnoException).code !== "ENOENT")
            this.#log.warn({ err, path }, "unreadable status");
        }
      }
      return found;
    });
  }

  watchStatuses(onChange: () => void, signal: AbortSignal): Promise<void> {
    return this.#watchFolder(this.#status, signal, async () => onChange());
  }

  async close(): Promise<void> {}

  /** Calls `look` now, after every change in a folder, and every `pollMs` because notification is not to be relied on everywhere. */
  async #watchFolder(folder: string, signal: AbortSignal, look: () => Promise<void>): Promise<void> {
    const bell = new Bell();
    const notified = keepDoing(
      () =>
        new Promise<void>((done, fail) => {
          const watcher = watch(folder, { signal }, () => bell.ring());
          watcher.once("error", fail);
          watcher.once("close", done);
        }),
      signal,
      (err) => this.#log.debug({ err, folder }, "no notification of changes, looking now and then"),
    );
    while (!signal.aborted) {
      await look();
      await bell.next(this.#pollMs, signal);
    }
    await notified;
  }

  /** Names of head files, newest first. */
  async #headNames(): Promise<string[]> {
    const names = await this.#do("list heads", () => readdir(this.#heads));
    return names
      .filter((name) => /^\d{15}\.json$/.test(name))
      .sort()
      .reverse();
  }

  #pathOf(object: string): string {
    return join(this.destination, `${basename(object)}.safetensors`);
  }

  async #do<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (typeof (error as { syscall?: unknown }).syscall !== "string") throw error;
      throw new BusUnavailableError(this.address, what, error);
    }
  }
}

/** `000000000000042.json`: sorts by version. */
function headName(version: number): string {
  return `${String(version).padStart(15, "0")}.json`;
}

function folderOf(url: string): string {
  const path = url.startsWith("file:///") ? fileURLToPath(url) : url.replace(/^file:/, "");
  if (path === "")
    throw new BusAddressError("weights", url, "file:<folder>, e.g. file:/var/lib/rlhf/weights");
  return resolve(path);
}

async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size;
}

/** Writes a new file and syncs it. */
async function writeSynced(path: string, bytes: Iterable<Uint8Array>, signal?: AbortSignal): Promise<void> {
  const file = await open(path, "wx");
  try {
    for (const piece of bytes) {
      for (let done = 0; done < piece.length; ) {
        signal?.throwIfAborted();
        const { bytesWritten } = await file.write(piece, done, Math.min(READ_BYTES, piece.length - done));
        done += bytesWritten;
      }
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
