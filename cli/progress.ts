/**
 * @file Progress of a run: one line redrawn in place on a terminal; elsewhere a plain line now and then.
 */

/** What people watch. */
export interface ProgressFigures {
  readonly step: number;
  readonly totalSteps: number;
  /** Phase within the step, if known. */
  readonly phase?: string;
  /** Label and value, in the order to show. */
  readonly figures: readonly (readonly [label: string, value: string])[];
  readonly secondsLeft?: number;
}

const PLAIN_EVERY_MS = 5_000;

/** Draws progress on a stream, by default stderr. */
export class Progress {
  #drawn = false;
  #lastPlain = 0;

  constructor(
    private readonly title: string,
    private readonly stream: NodeJS.WriteStream = process.stderr,
  ) {}

  show(progress: ProgressFigures): void {
    if (this.stream.isTTY) {
      const line = progressLine(this.title, progress, this.stream.columns ?? 100);
      this.stream.write(`\r\u001b[2K${line}`);
      this.#drawn = true;
    } else if (progress.phase === undefined) {
      const now = Date.now();
      if (now - this.#lastPlain < PLAIN_EVERY_MS && progress.step < progress.totalSteps) return;
      this.#lastPlain = now;
      this.stream.write(`${plainLine(this.title, progress)}\n`);
    }
  }

  /** A line of its own that the bar doesn't overwrite. */
  note(line: string): void {
    this.end();
    this.stream.write(`${line}\n`);
  }

  /** Leaves the last state on screen and goes to a new line. */
  end(): void {
    if (this.#drawn) this.stream.write("\n");
    this.#drawn = false;
  }
}

/** `title ━━━━────  12/40  learn  reward 0.52  KL 1.3 · 1 min 20 s left`, cut to the width. */
export function progressLine(title: string, progress: ProgressFigures, width: number): string {
  const cells = 20;
  const done = Math.round((cells * progress.step) / Math.max(1, progress.totalSteps));
  const bar = "━".repeat(done) + "─".repeat(cells - done);
  const line = [
    `${title} ${bar} ${progress.step}/${progress.totalSteps}`,
    progress.phase ? progress.phase.padEnd(10) : "",
    ...progress.figures.map(([label, value]) => `${label} ${value}`),
    left(progress),
  ]
    .filter((part) => part !== "")
    .join("  ");
  return line.length > width - 1 ? `${line.slice(0, width - 2)}…` : line;
}

/** The same without a bar, for logs. */
export function plainLine(title: string, progress: ProgressFigures): string {
  const figures = progress.figures.map(([label, value]) => `${label} ${value}`).join(", ");
  return [`${title} step ${progress.step}/${progress.totalSteps}`, figures, left(progress)]
    .filter((part) => part !== "")
    .join(": ");
}

/** `1 h 5 min`, `2 min 10 s`, `8 s`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const h = Math.floor(whole / 3600);
  const min = Math.floor((whole % 3600) / 60);
  const s = whole % 60;
  if (h > 0) return `${h} h ${min} min`;
  return min > 0 ? `${min} min ${s} s` : `${s} s`;
}

function left({ secondsLeft }: ProgressFigures): string {
  return secondsLeft === undefined || !Number.isFinite(secondsLeft)
    ? ""
    : `${formatSeconds(secondsLeft)} left`;
}
