/**
 * @file Spreads work over several servers of one kind: contiguous shards, one per server, and the items of a server that fails
 * are spread over the others. In: items and servers. Out: a result per shard, in the order of completion.
 */

/** A server of the pool. */
export interface PoolMember {
  readonly address: string;
}

/** How a failed shard is tried again. */
export interface PoolRule {
  /** Further attempts at an item. */
  readonly retries: number;
  /** Waits before attempt n (from 1) where every server has failed. */
  readonly backoff: (attempt: number) => Promise<void>;
  /** True if another attempt may help. */
  readonly mayRetry: (error: Error) => boolean;
  /** Told of each failed attempt. */
  readonly onFailure: (address: string, attempt: number, error: Error) => void;
}

/** A shard: some consecutive items. */
export interface Shard<T> {
  /** Place of its first item among all items. */
  readonly first: number;
  readonly items: readonly T[];
}

/** Cuts items into `count` consecutive shards whose sizes differ by 1 at most; empty ones are left out. */
export function cutShards<T>(items: readonly T[], count: number, first = 0): Shard<T>[] {
  const shards: Shard<T>[] = [];
  for (let i = 0, from = 0; i < count; i++) {
    const to = from + Math.floor(items.length / count) + (i < items.length % count ? 1 : 0);
    if (to > from) shards.push({ first: first + from, items: items.slice(from, to) });
    from = to;
  }
  return shards;
}

/** What came of a shard, or of the smaller ones that it was cut into. */
interface Done<T, R> {
  readonly shard: Shard<T>;
  readonly result: R;
}

/**
 * Runs every shard and yields each result as it comes, in the order of completion. Throws the last error of a shard
 * that no attempt could finish.
 */
export async function* runShards<T, M extends PoolMember, R>(
  items: readonly T[],
  members: readonly M[],
  rule: PoolRule,
  work: (member: M, shard: Shard<T>) => Promise<R>,
): AsyncGenerator<Done<T, R>> {
  if (members.length === 0) throw new Error("no server to work on");
  const failed = new Set<M>();
  const running = new Set<Promise<{ step: Step<T, M, R>; over: () => void }>>();
  const start = (work: Promise<Step<T, M, R>>) => {
    const own = work.then((step) => ({ step, over: () => running.delete(own) }));
    own.catch(() => {}); // one shard that failed, or a consumer that stops early, must not leave rejections that nobody hears
    running.add(own);
  };
  const attempt = (task: Task<T, M>) => start(tryOnce(task, rule, work));
  for (const [i, shard] of cutShards(items, members.length).entries()) {
    attempt({ shard, member: members[i] as M, attempts: 1 });
  }
  while (running.size > 0) {
    const { step, over } = await Promise.race(running);
    over();
    if (step.kind === "done") {
      failed.delete(step.member);
      yield { shard: step.shard, result: step.result };
    } else if (step.kind === "rested") {
      attempt(step.task);
    } else {
      failed.add(step.task.member);
      for (const task of spread(step.task, members, failed)) {
        if (failed.has(task.member)) start(rest(task, rule));
        else attempt(task);
      }
    }
  }
}

/** A shard and the server that is to work on it. */
interface Task<T, M> {
  readonly shard: Shard<T>;
  readonly member: M;
  /** Attempts at its items, with this one. */
  readonly attempts: number;
}

/** What an attempt, or a rest after one, came to. */
type Step<T, M, R> =
  | (Done<T, R> & { readonly kind: "done"; readonly member: M })
  | { readonly kind: "failed" | "rested"; readonly task: Task<T, M> };

async function tryOnce<T, M extends PoolMember, R>(
  task: Task<T, M>,
  rule: PoolRule,
  work: (member: M, shard: Shard<T>) => Promise<R>,
): Promise<Step<T, M, R>> {
  const { member, shard, attempts } = task;
  try {
    return { kind: "done", member, shard, result: await work(member, shard) };
  } catch (error) {
    rule.onFailure(member.address, attempts, error as Error);
    if (attempts > rule.retries || !rule.mayRetry(error as Error)) throw error;
    return { kind: "failed", task };
  }
}

async function rest<T, M>(task: Task<T, M>, rule: PoolRule): Promise<Step<T, M, never>> {
  await rule.backoff(task.attempts - 1);
  return { kind: "rested", task };
}

/** The next attempt at a failed shard: cut over the servers that have not failed; where all have, whole, on the next one. */
function spread<T, M>(
  { shard, member, attempts }: Task<T, M>,
  members: readonly M[],
  failed: ReadonlySet<M>,
): Task<T, M>[] {
  const able = members.filter((other) => !failed.has(other));
  const next = members[(members.indexOf(member) + 1) % members.length] as M;
  if (able.length === 0) return [{ shard, member: next, attempts: attempts + 1 }];
  return cutShards(shard.items, able.length, shard.first).map((part, i) => ({
    shard: part,
    member: able[i] as M,
    attempts: attempts + 1,
  }));
}

/**
 * Exponential backoff with full jitter, 0.2 s doubling to 5 s, and never shorter than what a server asked for; ends early when
 * `signal` aborts.
 */
export function jitteredBackoff(signal: AbortSignal, random: () => number = Math.random) {
  return (attempt: number, atLeastMs = 0): Promise<void> => {
    const most = Math.min(5_000, 200 * 2 ** (attempt - 1));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(done, Math.max(atLeastMs, random() * most));
      signal.addEventListener("abort", stop, { once: true });
      function done() {
        signal.removeEventListener("abort", stop);
        resolve();
      }
      function stop() {
        clearTimeout(timer);
        reject(signal.reason);
      }
    });
  };
}
