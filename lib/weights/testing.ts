/** @file What the tests of this room share: a bus of each kind with a way to damage its objects, and small tensors. */
import { mkdtemp, open as openFile, rm, stat, truncate } from "node:fs/promises";
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Objm } from "@nats-io/obj";
import { connect } from "@nats-io/transport-node";
import type { WeightsBus } from "./bus.js";
import { safeName, type WeightsManifest } from "./manifest.js";
import { findNatsServer, type NatsServer, startNatsServer } from "./nats-server.js";
import type { WeightTensor } from "./object-bytes.js";
import { type OpenOptions, openWeightsBus } from "./open.js";

/** Ways to damage a stored object. */
export type Damage = "flip" | "flip header" | "truncate" | "delete";

/** A place for buses of one kind. */
export interface Harness {
  readonly kind: "nats" | "file";
  readonly url: string;
  /** Opens a bus; it is closed with the harness. */
  open(options?: Partial<OpenOptions>): Promise<WeightsBus>;
  /** Damages the stored object of a version. */
  damage(manifest: WeightsManifest, how: Damage): Promise<void>;
  /** The stored bytes of a version. */
  bytes(manifest: WeightsManifest): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Options that make tests quick. */
const QUICK: OpenOptions = { run: "run-1", model: "tiny", pollMs: 200, stallMs: 3000, pruneGraceMs: 0 };

/** A harness over a fresh folder. */
export async function fileHarness(): Promise<Harness> {
  const folder = await mkdtemp(join(tmpdir(), "weights-"));
  const buses: WeightsBus[] = [];
  const pathOf = ({ run, model, object }: WeightsManifest) =>
    join(folder, safeName(run), safeName(model), "objects", `${basename(object)}.safetensors`);
  return {
    kind: "file",
    url: `file:${folder}`,
    open: async (options) => {
      const bus = await openWeightsBus(`file:${folder}`, { ...QUICK, ...options });
      buses.push(bus);
      return bus;
    },
    damage: async (manifest, how) => {
      const path = pathOf(manifest);
      if (how === "delete") return rm(path);
      if (how === "truncate") return truncate(path, (await stat(path)).size - 100);
      const file = await openFile(path, "r+");
      const at = how === "flip" ? manifest.bytes - 2 : 20;
      const byte = Buffer.alloc(1);
      await file.read(byte, 0, 1, at);
      byte[0] ^= 1;
      await file.write(byte, 0, 1, at);
      await file.close();
    },
    bytes: async (manifest) => {
      const file = await openFile(pathOf(manifest), "r");
      try {
        return await file.readFile();
      } finally {
        await file.close();
      }
    },
    close: async () => {
      await Promise.all(buses.map((bus) => bus.close()));
      await rm(folder, { recursive: true });
    },
  };
}

/** A harness over a nats-server of its own. Throws when there is none: ask natsMissing() first. */
export async function natsHarness(): Promise<Harness & { readonly server: NatsServer }> {
  const server = await startNatsServer();
  const buses: WeightsBus[] = [];
  const withStore = async <T>(
    run: string,
    work: (bucket: string, store: ObjectStoreOf) => Promise<T>,
  ): Promise<T> => {
    const connection = await connect({ servers: server.url });
    try {
      const bucket = `rlhf-weights-${safeName(run)}`;
      return await work(bucket, await new Objm(jetstream(connection)).open(bucket));
    } finally {
      await connection.close();
    }
  };
  const bytes = (manifest: WeightsManifest) =>
    withStore(manifest.run, async (_, store) => {
      const blob = await store.getBlob(manifest.object);
      if (!blob) throw new Error(`no object ${manifest.object}`);
      return blob;
    });
  return {
    kind: "nats",
    url: server.url,
    server,
    open: async (options) => {
      const bus = await openWeightsBus(server.url, { ...QUICK, ...options });
      buses.push(bus);
      return bus;
    },
    damage: async (manifest, how) => {
      if (how === "truncate") {
        // the last chunk is lost, the meta message still promises it
        const connection = await connect({ servers: server.url });
        const manager = await jetstreamManager(connection);
        const bucket = `rlhf-weights-${safeName(manifest.run)}`;
        const info = await (await new Objm(jetstream(connection)).open(bucket)).info(manifest.object);
        const last = await manager.streams.getMessage(`OBJ_${bucket}`, {
          last_by_subj: `$O.${bucket}.C.${info?.nuid}`,
        });
        await manager.streams.deleteMessage(`OBJ_${bucket}`, last!.seq);
        await connection.close();
        return;
      }
      const content = how === "delete" ? undefined : await bytes(manifest);
      await withStore(manifest.run, async (_, store) => {
        const info = await store.info(manifest.object);
        await store.delete(manifest.object);
        if (!content) return;
        content[how === "flip" ? content.length - 2 : 20] ^= 1;
        await store.putBlob(
          { name: manifest.object, ...(info?.metadata && { metadata: info.metadata }) },
          content,
        );
      });
    },
    bytes,
    close: async () => {
      await Promise.all(buses.map((bus) => bus.close()));
      await server.stop();
    },
  };
}

type ObjectStoreOf = Awaited<ReturnType<Objm["open"]>>;

/** Why tests that need a nats-server cannot run here, or undefined when they can. */
export async function natsMissing(): Promise<string | undefined> {
  return (await findNatsServer())
    ? undefined
    : "NOT RUN: the NATS tests of lib/weights, as no nats-server is on the PATH (Debian: apt-get install nats-server)";
}

/** A few small tensors, different for each seed; `big` adds one of that many numbers. */
export function someTensors(seed: number, big = 0): Map<string, WeightTensor> {
  const numbers = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(seed * 1000 + i));
  const tensors = new Map<string, WeightTensor>([
    ["h.0.attn.c_attn.weight", { shape: [4, 12], data: numbers(48) }],
    ["h.0.attn.c_attn.bias", { shape: [12], data: numbers(12) }],
    ["scale", { shape: [], data: numbers(1) }],
    ["empty", { shape: [0, 3], data: numbers(0) }],
    ["wte.weight", { shape: [7, 4], data: numbers(28) }],
  ]);
  if (big > 0)
    tensors.set("big", { shape: [big], data: new Float32Array(big).map((_, i) => (i % 977) + seed) });
  return tensors;
}

/** Resolves when `condition` holds; looks every 10 ms. Rejects after `ms`. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what: string,
  ms = 10_000,
): Promise<void> {
  const until = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > until) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A TCP proxy in front of a server that can hold back what the server sends. */
export interface TcpProxy {
  readonly url: string;
  /** Bytes passed on from the server so far. */
  readonly downBytes: number;
  /** Bytes passed on to the server so far. */
  readonly upBytes: number;
  /** Stops passing on, in one direction, after that many more bytes. */
  hold(direction: "down" | "up", afterBytes: number): void;
  /** Passes everything on again. */
  release(): void;
  /** Resolves when a hold took effect. */
  held(): Promise<void>;
  close(): Promise<void>;
}

/** Starts a proxy to a port of loopback. */
export async function startProxy(targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  const passed = { down: 0, up: 0 };
  const limit = { down: Number.POSITIVE_INFINITY, up: Number.POSITIVE_INFINITY };
  const paused = new Set<Socket>();
  const server = createServer((client) => {
    const target = connectTcp(targetPort, "127.0.0.1");
    const pass = (direction: "down" | "up", from: Socket, to: Socket) => {
      sockets.add(from);
      from.on("data", (data) => {
        passed[direction] += data.length;
        if (!to.write(data)) {
          from.pause();
          to.once("drain", () => paused.has(from) || from.resume());
        }
        if (passed[direction] >= limit[direction]) {
          paused.add(from);
          from.pause();
        }
      });
      from.on("error", () => {});
      from.on("close", () => {
        sockets.delete(from);
        paused.delete(from);
        to.destroy();
      });
    };
    pass("up", client, target);
    pass("down", target, client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get downBytes() {
      return passed.down;
    },
    get upBytes() {
      return passed.up;
    },
    hold: (direction, afterBytes) => {
      limit[direction] = passed[direction] + afterBytes;
    },
    release: () => {
      limit.down = Number.POSITIVE_INFINITY;
      limit.up = Number.POSITIVE_INFINITY;
      for (const socket of paused) socket.resume();
      paused.clear();
    },
    held: () => eventually(() => paused.size > 0, "the proxy holds back"),
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
