/** @file Carries the active OpenTelemetry context across awaits, on Node's AsyncLocalStorage. */
import { AsyncLocalStorage } from "node:async_hooks";
import { EventEmitter } from "node:events";
import { type Context, type ContextManager, ROOT_CONTEXT } from "@opentelemetry/api";

/** The context manager that startTelemetry registers. */
export class AsyncContextManager implements ContextManager {
  readonly #storage = new AsyncLocalStorage<Context>();

  /** The context of the code that runs now. */
  active(): Context {
    return this.#storage.getStore() ?? ROOT_CONTEXT;
  }

  /** Runs `fn` with `context` active, including everything it awaits. */
  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    context: Context,
    fn: F,
    thisArg?: ThisParameterType<F>,
    ...args: A
  ): ReturnType<F> {
    return this.#storage.run(context, () => fn.apply(thisArg, args));
  }

  /** A function that always runs in `context`; emitters are returned as they are (nothing of ours binds one). */
  bind<T>(context: Context, target: T): T {
    if (typeof target !== "function" || target instanceof EventEmitter) return target;
    const manager = this;
    const bound = function (this: unknown, ...args: unknown[]): unknown {
      return manager.with(context, () => (target as (...args: unknown[]) => unknown).apply(this, args));
    };
    return bound as T;
  }

  /** Starts carrying contexts. */
  enable(): this {
    return this;
  }

  /** Stops carrying contexts. */
  disable(): this {
    this.#storage.disable();
    return this;
  }
}
