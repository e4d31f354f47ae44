/**
 * @file In which order an epoch visits the samples of a batch, and how that order is cut.
 * In: number of samples, a shuffle. Out: lists of sample indices. Pure but for the random source given.
 */
import { ShapeError } from "./errors.js";

/**
 * The order of one epoch, counted from 0, over `samples` samples: a permutation of 0 … samples-1. `previous` is the order of
 * the epoch before (0, 1, 2 … for the first).
 */
export type EpochOrder = (epoch: number, samples: number, previous: readonly number[]) => readonly number[];

/** What an order needs of a random source: Fisher–Yates in place. */
export interface Shuffler {
  shuffle(items: number[]): unknown;
}

/** Every epoch shuffles 0, 1, 2 … anew: independent permutations, as the later TRL versions draw them. */
export function shuffledOrder(random: Shuffler): EpochOrder {
  return (_epoch, samples) => {
    const order = identity(samples);
    random.shuffle(order);
    return order;
  };
}

/** Every epoch shuffles the order of the epoch before, as TRL v0.2.1 did with Python's random.shuffle. */
export function reshuffledOrder(random: Shuffler): EpochOrder {
  return (_epoch, _samples, previous) => {
    const order = [...previous];
    random.shuffle(order);
    return order;
  };
}

/** Given orders, one per epoch: to replay a recorded run. Throws ShapeError when an epoch has none. */
export function recordedOrder(orders: readonly (readonly number[])[]): EpochOrder {
  return (epoch) => {
    const order = orders[epoch];
    if (!order) throw new ShapeError(`orders: expected epoch ${epoch}, got ${orders.length} epochs`);
    return order;
  };
}

/** 0 … samples-1. */
export function identity(samples: number): number[] {
  return Array.from({ length: samples }, (_, i) => i);
}

/**
 * Cuts an order into optimizer steps, each a list of minibatches of `minibatchSize` samples, `accumulationSteps` of them a
 * step; what is left over at the end makes smaller ones. Throws ShapeError unless `order` is a permutation.
 */
export function cutMinibatches(
  order: readonly number[],
  minibatchSize: number,
  accumulationSteps: number,
): number[][][] {
  if (new Set(order).size !== order.length || order.some((i) => !(i >= 0 && i < order.length))) {
    throw new ShapeError(
      `order: expected a permutation of 0 to ${order.length - 1}, got ${order.join(", ")}`,
    );
  }
  return cut(cut(order, minibatchSize), accumulationSteps);
}

function cut<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
}
