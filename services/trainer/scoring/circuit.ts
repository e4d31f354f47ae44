/**
 * @file The circuit of a reward term: after several failed calls in a row no call is made for a while, so that a term that is
 * down does not cost every shard its full retries; then one call is let through as a trial. Pure but for the clock.
 */
import { gauge } from "../../../lib/telemetry/index.js";

const circuits = gauge("rlhf.reward.term.circuit");

/** Closed: calls pass. Open: none does. Half-open: one trial is under way. */
export type CircuitState = "closed" | "open" | "half-open";

const VALUES = { closed: 0, "half-open": 0.5, open: 1 } as const;

/** When a circuit opens and for how long. */
export interface CircuitRule {
  /** Failed calls in a row that open it. */
  readonly failures: number;
  /** Milliseconds until a trial. */
  readonly coolDownMs: number;
}

/** A call was not made since the circuit is open. */
export class CircuitOpenError extends Error {
  override readonly name = "CircuitOpenError";
}

/** The circuit of one term of a run. */
export class TermCircuit {
  #state: CircuitState = "closed";
  #failures = 0;
  #opened = 0;
  #why = "";

  constructor(
    readonly term: string,
    private readonly rule: CircuitRule,
    /** Told when the state changes, with a line for people. */
    private readonly onChange: (state: CircuitState, message: string) => void = () => {},
    /** Milliseconds since the epoch. */
    private readonly now: () => number = Date.now,
  ) {
    circuits.record(0, { "rlhf.reward.term": term });
  }

  get state(): CircuitState {
    return this.#state;
  }

  /**
   * Makes the call if the circuit lets it. Throws CircuitOpenError without calling where it does not, else what the call throws;
   * `answered` says of an error whether the server answered all the same (a refusal is an answer).
   */
  async call<T>(make: () => Promise<T>, answered: (error: unknown) => boolean): Promise<T> {
    this.#admit();
    const trial = this.#state === "half-open";
    try {
      const result = await make();
      this.#succeeded();
      return result;
    } catch (error) {
      if (answered(error)) this.#succeeded();
      else this.#failed(error as Error, trial);
      throw error;
    }
  }

  #admit(): void {
    if (this.#state === "closed") return;
    const left = this.#opened + this.rule.coolDownMs - this.now();
    if (this.#state === "half-open" || left > 0) {
      const when =
        this.#state === "half-open"
          ? "a trial is under way"
          : `a trial follows in ${(left / 1000).toFixed(1)} s`;
      throw new CircuitOpenError(
        `not called: ${this.#failures} calls in a row failed (${this.#why}); ${when}`,
      );
    }
    this.#enter("half-open", `reward term ${this.term}: trying again after ${this.rule.coolDownMs} ms`);
  }

  #succeeded(): void {
    this.#failures = 0;
    if (this.#state !== "closed") this.#enter("closed", `reward term ${this.term} answers again`);
  }

  #failed(error: Error, trial: boolean): void {
    this.#failures += 1;
    this.#why = error.message;
    // calls that were under way as it opened change nothing
    if (!trial && (this.#state !== "closed" || this.#failures < this.rule.failures)) return;
    this.#opened = this.now();
    this.#enter(
      "open",
      `reward term ${this.term}: ${this.#failures} calls in a row failed (${error.message}); not called for ${this.rule.coolDownMs} ms`,
    );
  }

  #enter(state: CircuitState, message: string): void {
    this.#state = state;
    circuits.record(VALUES[state], { "rlhf.reward.term": this.term });
    this.onChange(state, message);
  }
}
