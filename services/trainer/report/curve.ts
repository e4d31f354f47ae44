/** @file A line chart as inline SVG. In: values by step. Out: markup that needs nothing else. Pure. */
import { type Html, html } from "./html.js";

/** One line. Values that are no number leave a gap. */
export interface Curve {
  readonly label: string;
  readonly points: readonly (readonly [step: number, value: number])[];
}

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [460, 200, 48, 22, 10, 10];

/** A chart of up to four lines with a legend; a sentence where there is nothing to draw. */
export function curveChart(title: string, curves: readonly Curve[]): Html {
  const drawn = curves
    .map(({ label, points }) => ({ label, points: points.filter(([, value]) => Number.isFinite(value)) }))
    .filter(({ points }) => points.length > 0);
  if (drawn.length === 0)
    return html`<figure><figcaption>${title}</figcaption><p class="muted">No values.</p></figure>`;
  const steps = drawn.flatMap(({ points }) => points.map(([step]) => step));
  const values = drawn.flatMap(({ points }) => points.map(([, value]) => value));
  const [first, last] = widened(Math.min(...steps), Math.max(...steps));
  const [low, high] = widened(Math.min(...values), Math.max(...values));
  const x = (step: number) => LEFT + ((step - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const grid = ticks(low, high).map(
    (
      value,
    ) => html`<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${fixed(y(value))}" y2="${fixed(y(value))}"/>
<text class="tick" text-anchor="end" x="${LEFT - 6}" y="${fixed(y(value) + 4)}">${plain(value)}</text>`,
  );
  const marks = ticks(first, last)
    .filter(Number.isInteger)
    .map(
      (step) =>
        html`<text class="tick" text-anchor="middle" x="${fixed(x(step))}" y="${HEIGHT - 6}">${step}</text>`,
    );
  const lines = drawn.map(({ points }, i) =>
    points.length === 1
      ? html`<circle class="dot c${i + 1}" cx="${fixed(x(points[0]?.[0] ?? 0))}" cy="${fixed(y(points[0]?.[1] ?? 0))}" r="3"/>`
      : html`<polyline class="line c${i + 1}" points="${points.map(([step, value]) => `${fixed(x(step))},${fixed(y(value))}`).join(" ")}"/>`,
  );
  const legend = drawn.map(
    ({ label, points }, i) =>
      html`<li><span class="key c${i + 1}"></span>${label} <b>${plain(points.at(-1)?.[1] ?? Number.NaN)}</b></li>`,
  );
  return html`<figure><figcaption>${title}<ul class="legend">${legend}</ul></figcaption>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}">${grid}${marks}${lines}</svg></figure>`;
}

/** Round values between two bounds, about five. */
export function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((n) => n * power >= rough) ?? 10) * power;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

function widened(low: number, high: number): [number, number] {
  return low === high ? [low - (Math.abs(low) || 1), high + (Math.abs(high) || 1)] : [low, high];
}

const fixed = (value: number) => value.toFixed(1);

/** Four significant digits at most. */
const plain = (value: number) => String(Number(value.toPrecision(4))).replace("-", "−");
