/**
 * @file Which policy servers take part: those that hold the weights that the run needs now. One that dies, falls behind or holds other
 * weights under the same version is left out, said once, and takes part again once it holds them.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { RunFailedError } from "../errors.js";
import type { PolicyDescription, PolicyMember, RunServers } from "./servers.js";

/** Weights by version and content digest. */
export interface WeightsIdentity {
  readonly version: number;
  readonly digest: string;
}

/** What a roster needs. */
export interface PolicyRosterOptions {
  readonly servers: Pick<RunServers, "policies" | "describe">;
  /** Longest wait for a server that answers but does not hold the weights yet, and for the first that does, ms. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Told when a server is left out, and when it takes part again. */
  readonly say: (level: "info" | "warn", message: string, fields: Readonly<Record<string, string>>) => void;
}

/** A server that is there says at once what it holds. */
const LOOK_MS = 3_000;

/** The policy servers of one run. */
export class PolicyRoster {
  #serving: readonly PolicyMember[];
  /** What is the matter with a server, as of the last look. */
  readonly #lacks = new Map<PolicyMember, string>();
  /** Servers that nobody waits for. */
  readonly #leftOut = new Set<PolicyMember>();

  constructor(private readonly options: PolicyRosterOptions) {
    this.#serving = options.servers.policies;
  }

  /** Servers that held the weights when last gathered; before that, all. */
  get serving(): readonly PolicyMember[] {
    return this.#serving;
  }

  /** Who is waited for, and what is the matter with each. */
  get waitedFor(): string {
    const { policies } = this.options.servers;
    const lacks = policies.flatMap((member) => {
      const lack = this.#lacks.get(member);
      return lack === undefined ? [] : [`${member.address}: ${lack}`];
    });
    return lacks.join("; ") || policies.map(({ address }) => address).join(", ");
  }

  /** What the servers hold that answer. Throws RunFailedError (NO_SERVER) where none does in time. */
  async describe(): Promise<PolicyDescription[]> {
    const { servers, timeoutMs } = this.options;
    let found: PolicyDescription[] = [];
    await this.#repeat(async () => {
      const answers = await Promise.all(servers.policies.map((member) => this.#ask(member)));
      found = answers.filter((answer) => answer !== undefined);
      return found.length > 0;
    });
    if (found.length > 0) return found;
    throw new RunFailedError(
      "NO_SERVER",
      `no policy server answered within ${timeoutMs} ms: ${this.waitedFor}`,
    );
  }

  /**
   * Waits until every server that answers serves these weights, and at least one does. One that is away is not waited for while others
   * serve, and one that did not load them in time is not waited for the next time. Throws RunFailedError (WEIGHTS_NOT_SERVED) where
   * none serves them in time.
   */
  async gather(weights: WeightsIdentity): Promise<void> {
    const { servers, timeoutMs } = this.options;
    const all = servers.policies;
    const ready = new Set<PolicyMember>();
    const away = new Set<PolicyMember>();
    const look = async (member: PolicyMember) => {
      const held = await this.#ask(member);
      if (held) away.delete(member);
      else away.add(member);
      const lack = held && lackOf(held, weights);
      if (lack) this.#lacks.set(member, lack);
      if (!held || lack) return;
      ready.add(member);
      this.#takeIn(member);
    };
    const waited = this.#leftOut.size === all.length ? all : all.filter((one) => !this.#leftOut.has(one));
    for (const member of all) if (!waited.includes(member)) look(member).catch(() => {});
    await this.#repeat(async () => {
      await Promise.all(waited.filter((member) => !ready.has(member)).map(look));
      return ready.size > 0 && waited.every((member) => ready.has(member) || away.has(member));
    });
    if (ready.size === 0) {
      const what = `no policy server serves weight version ${weights.version} after ${timeoutMs} ms`;
      throw new RunFailedError("WEIGHTS_NOT_SERVED", `${what}: ${this.waitedFor}`);
    }
    this.#serving = all.filter((member) => ready.has(member));
    for (const member of all) if (!ready.has(member)) this.#leaveOut(member, weights.version);
  }

  /** What a server holds; undefined, with the reason kept, where it does not answer. */
  async #ask(member: PolicyMember): Promise<PolicyDescription | undefined> {
    const { servers, signal } = this.options;
    try {
      const held = await servers.describe(member, signal, LOOK_MS);
      this.#lacks.delete(member);
      return held;
    } catch (error) {
      signal.throwIfAborted();
      this.#lacks.set(member, (error as Error).message);
      return undefined;
    }
  }

  /** Repeats `attempt` until it says true, or the timeout has passed. */
  async #repeat(attempt: () => Promise<boolean>): Promise<void> {
    const { signal, timeoutMs } = this.options;
    const end = performance.now() + timeoutMs;
    for (let pause = 10; ; pause = Math.min(250, pause * 1.5)) {
      signal.throwIfAborted();
      if ((await attempt()) || performance.now() > end) return;
      await sleep(pause, undefined, { signal });
    }
  }

  #takeIn(member: PolicyMember): void {
    if (!this.#leftOut.delete(member)) return;
    const { address } = member;
    this.options.say("info", `policy server ${address} takes part again`, { address });
  }

  #leaveOut(member: PolicyMember, version: number): void {
    if (this.#leftOut.has(member)) return;
    this.#leftOut.add(member);
    const { address } = member;
    const why = this.#lacks.get(member) ?? "";
    this.options.say(
      "warn",
      `policy server ${address} is left out until it serves weight version ${version}: ${why}`,
      { address },
    );
  }
}

/** Why a server that holds `held` can't do for `wanted`; undefined where it can. */
function lackOf(held: WeightsIdentity, wanted: WeightsIdentity): string | undefined {
  if (held.version < wanted.version) return `serves version ${held.version}`;
  if (held.version === wanted.version && held.digest !== wanted.digest) {
    return `serves other weights as version ${held.version} (digest ${held.digest.slice(0, 12)}…, expected ${wanted.digest.slice(0, 12)}…)`;
  }
  return undefined;
}
