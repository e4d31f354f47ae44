/**
 * @file All detectors of a run, and which alarms are on. An alarm is raised when its condition begins, and again only after
 * the condition was over for a step. Pure: shown a run's metrics.jsonl again, it is where it was.
 */
import type { PpoRunConfig } from "../run-config.js";
import type { Alarm, Detector, Finding, StepMetrics } from "./alarm.js";
import { constantTerm } from "./dead-term.js";
import { entropyCollapse } from "./entropy-collapse.js";
import { negativeKl } from "./negative-kl.js";
import { nonFiniteMetric } from "./non-finite.js";
import { ratioOutOfRange } from "./ratio-out-of-range.js";
import { rewardHacking } from "./reward-hacking.js";
import type { AlarmName } from "./settings.js";
import { valueUnexplained } from "./value-unexplained.js";

/** The part of the run file that alarms depend on. */
export type HealthConfig = Pick<
  PpoRunConfig,
  "alarms" | "generation" | "ppo" | "rewards" | "control" | "maxStaleness"
>;

/** What changed with a step. */
export interface Observation {
  /** Alarms whose condition began. */
  readonly raised: readonly Alarm[];
  /** Alarms whose condition is over. */
  readonly cleared: readonly { readonly name: AlarmName; readonly subject: string }[];
}

/** The detectors of one run. */
export class HealthMonitor {
  readonly #config: HealthConfig;
  readonly #detectors: readonly Detector[];
  /** Detectors whose condition holds. */
  readonly #holding = new Set<Detector>();
  #last: StepMetrics | undefined;

  /** `history` are the steps that a resumed run has behind it. */
  constructor(config: HealthConfig, history: readonly StepMetrics[] = []) {
    const { alarms } = config;
    this.#config = config;
    const all = [
      nonFiniteMetric(config),
      negativeKl(alarms.negativeKl, config),
      ratioOutOfRange(alarms.ratioOutOfRange, config),
      entropyCollapse(alarms.entropyCollapse, config),
      valueUnexplained(alarms.valueUnexplained, config),
      rewardHacking(alarms.rewardHacking, config),
      ...config.rewards.map((term) => constantTerm(alarms.deadTerm, term, config)),
    ];
    this.#detectors = all.filter((detector) => detector !== undefined);
    for (const step of history) this.observe(step);
  }

  /** The newest step that was observed. */
  get last(): StepMetrics | undefined {
    return this.#last;
  }

  /** Takes in a step. */
  observe(step: StepMetrics): Observation {
    this.#last = step;
    const raised: Alarm[] = [];
    const cleared: Pick<Detector, "alarm" | "subject">[] = [];
    for (const detector of this.#detectors) {
      const finding = detector.observe(step);
      const held = this.#holding.has(detector);
      if (finding) {
        this.#holding.add(detector);
        const alarm = this.alarm(detector.alarm, step.step, finding);
        // one that stops the run does so however long its condition has held: the run file may have changed meanwhile
        if (alarm && (!held || alarm.action === "stop")) raised.push(alarm);
      } else if (held) {
        this.#holding.delete(detector);
        if (this.#config.alarms[detector.alarm].action !== "off") cleared.push(detector);
      }
    }
    return { raised, cleared: cleared.map(({ alarm: name, subject }) => ({ name, subject })) };
  }

  /** A finding as an alarm; undefined where the run file turns it off. */
  alarm(name: AlarmName, step: number, finding: Finding): Alarm | undefined {
    const { action } = this.#config.alarms[name];
    return action === "off" ? undefined : { ...finding, name, step, action };
  }
}
