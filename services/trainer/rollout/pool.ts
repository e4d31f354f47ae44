/**
 * @file Spreads work over several servers of one kind: contiguous shards, one per server, and a shard whose server fails
 * moves to another. In: items and servers. Out: results in the order of the items.
 */

/** A server of the pool. */
export interface PoolMember {
  readonly address: string;
}

/** How a failed shard is tried again. */
export interface PoolRule {
  /** Further attempts of a shard, on another server where there is one. */
  readonly retries: number;
  /** Waits before attempt n (from 1). */
  readonly backoff: (attempt: number) => Promise<void>;
  /** True if another attempt may help. */
  readonly mayRetry: (error: Error) => boolean;
  /** Told of each failed attempt. */
  readonly onFailure: (address: string, attempt: number, error: Error) => void;
}

/** A shard: some consecutive items. */
export interface Shard<T> {
  readonly index: number;
  readonly items: readonly T[];
}

/** Cuts items into `count` consecutive shards whose sizes differ by 1 at most; empty ones are left out. */
export function cutShards<T>(items: readonly T[], count: number): Shard<T>[] {
  const shards: Shard<T>[] = [];
  for (let i = 0, from = 0; i < count; i++) {
    const to = from + Math.floor(items.length / count) + (i < items.length % count ? 1 : 0);
    if (to > from) shards.push({ index: shards.length, items: items.slice(from, to) });
    from = to;
  }
  return shards;
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
): AsyncGenerator<{ shard: Shard<T>; result: R }> {
  if (members.length === 0) throw new Error("no server to work on");
  const running = new Map<number, Promise<{ shard: Shard<T>; result: R }>>();
  for (const shard of cutShards(items, members.length)) {
    running.set(
      shard.index,
      runOne(shard, members, rule, work).then((result) => ({ shard, result })),
    );
  }
  try {
    while (running.size > 0) {
      const done = await Promise.race(running.values());
      running.delete(done.shard.index);
      yield done;
    }
  } finally {
    // a consumer that stops early, or one shard that failed, must not leave rejections that nobody hears
    for (const rest of running.values()) rest.catch(() => {});
  }
}

async function runOne<T, M extends PoolMember, R>(
  shard: Shard<T>,
  members: readonly M[],
  rule: PoolRule,
  work: (member: M, shard: Shard<T>) => Promise<R>,
): Promise<R> {
  for (let attempt = 0; ; attempt++) {
    const member = members[(shard.index + attempt) % members.length] as M;
    try {
      return await work(member, shard);
    } catch (error) {
      rule.onFailure(member.address, attempt + 1, error as Error);
      if (attempt >= rule.retries || !rule.mayRetry(error as Error)) throw error;
      await rule.backoff(attempt + 1);
    }
  }
}

/** Exponential backoff with full jitter, 0.2 s doubling to 5 s; ends early when `signal` aborts. */
export function jitteredBackoff(signal: AbortSignal, random: () => number = Math.random) {
  return (attempt: number): Promise<void> => {
    const most = Math.min(5_000, 200 * 2 ** (attempt - 1));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(done, random() * most);
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
