/**
 * @file The servers behind a client's addresses: names looked up again and again, and each call given to the next
 * usable server in turn.
 */
import { lookup } from "node:dns/promises";
import type { ChannelCredentials, ChannelOptions } from "@grpc/grpc-js";
import { type Endpoint, targetOf } from "./addresses.js";
import { Backend } from "./backend.js";

/** How backends are made. */
export interface PoolOptions {
  credentials: ChannelCredentials;
  channel: ChannelOptions;
  /** Service whose health decides; watched where there is more than one server. */
  service: string;
  /** True watches health even of a single server, false never. Default: where there are several. */
  healthCheck?: boolean | undefined;
  /** Looks up a name. Default: the system's resolver. */
  resolve?: ((host: string) => Promise<string[]>) | undefined;
}

const lookupEveryMs = 30_000;
const lookupAtMostEveryMs = 1000;

/** Keeps one backend for each address and hands them out in turn. */
export class BackendPool {
  private readonly backends = new Map<string, Backend>();
  private turn = 0;
  private readonly timer: NodeJS.Timeout | undefined;
  private pending: Promise<void> | undefined;
  private lastLookup = 0;
  private lookupError: unknown;

  constructor(
    private readonly endpoints: readonly Endpoint[],
    private readonly options: PoolOptions,
  ) {
    for (const endpoint of endpoints) if (!endpoint.isName) this.ensure(endpoint.address, {});
    if (endpoints.some(({ isName }) => isName)) {
      void this.refresh();
      this.timer = setInterval(() => void this.refresh(), lookupEveryMs).unref();
    }
  }

  /** Every backend known now. */
  list(): Backend[] {
    return [...this.backends.values()];
  }

  /**
   * The next backend in turn: usable and not tried yet if there is one, else usable, else any. Undefined if no name
   * could be looked up; `failure` says why.
   */
  pick(tried: ReadonlySet<Backend>): Backend | undefined {
    const all = this.list();
    const rotated = [
      ...all.slice(this.turn % (all.length || 1)),
      ...all.slice(0, this.turn % (all.length || 1)),
    ];
    const chosen =
      rotated.find((backend) => backend.usable && !tried.has(backend)) ??
      rotated.find((backend) => backend.usable) ??
      rotated.find((backend) => !tried.has(backend)) ??
      rotated[0];
    if (chosen) this.turn = (all.indexOf(chosen) + 1) % all.length;
    return chosen;
  }

  /** True if a usable backend is left that was not tried. */
  hasFresh(tried: ReadonlySet<Backend>): boolean {
    return this.list().some((backend) => backend.usable && !tried.has(backend));
  }

  /** Why there is no backend. */
  get failure(): unknown {
    return this.lookupError;
  }

  /** Waits for the first look-up where no backend is known yet. */
  async resolved(): Promise<void> {
    if (this.backends.size === 0) await this.refresh();
  }

  /** Looks names up again, at most once a second; called when a backend failed. */
  refresh(): Promise<void> {
    if (this.pending) return this.pending;
    if (Date.now() - this.lastLookup < lookupAtMostEveryMs && this.backends.size > 0)
      return Promise.resolve();
    this.lastLookup = Date.now();
    this.pending = this.lookUp().finally(() => {
      this.pending = undefined;
    });
    return this.pending;
  }

  /** Closes every channel. */
  close(): void {
    clearInterval(this.timer);
    for (const backend of this.backends.values()) backend.close();
  }

  private async lookUp(): Promise<void> {
    for (const endpoint of this.endpoints) {
      if (!endpoint.isName) continue;
      let ips: string[];
      try {
        ips = await (this.options.resolve ?? resolveAll)(endpoint.host);
      } catch (error) {
        this.lookupError = error; // what was found earlier stays in use
        continue;
      }
      this.lookupError = undefined;
      const authority = `${endpoint.host}:${endpoint.port}`;
      const wanted = new Set(ips.map((ip) => targetOf(ip, endpoint.port)));
      for (const [key, backend] of this.backends) {
        if (!key.startsWith(`${authority} `) || wanted.has(backend.address)) continue;
        this.backends.delete(key);
        backend.close();
      }
      for (const target of wanted) {
        this.ensure(target, { "grpc.default_authority": authority }, `${authority} ${target}`, endpoint.host);
      }
    }
  }

  private ensure(target: string, extra: ChannelOptions, key = target, tlsName?: string): void {
    if (this.backends.has(key)) return;
    const { credentials, channel, service, healthCheck } = this.options;
    const names = tlsName === undefined ? {} : { "grpc.ssl_target_name_override": tlsName };
    const several = this.endpoints.length > 1 || this.endpoints.some(({ isName }) => isName);
    const watch = (healthCheck ?? several) ? service : undefined;
    this.backends.set(
      key,
      new Backend(target, { credentials, channel: { ...names, ...extra, ...channel }, watch }),
    );
  }
}

async function resolveAll(host: string): Promise<string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}
