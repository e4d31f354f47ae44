/** @file One chart over steps: uPlot with our colours, a legend that is text, and a summary for those who can't see it. */
import { el, fill } from "./dom.js";
import { short } from "./format.js";

/** A classic script of the page: uPlot's own bundle. */
const { uPlot } = globalThis;

const HEIGHT = 190;
/** Colours of series in order; defined for both themes in style.css. */
export const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];

/**
 * A chart. `series`: label and colour (a CSS variable) of each line. Charts with the same `sync` share their cursor.
 * `set(xs, columns)` draws; null in a column is no point.
 */
export function createChart({ title, note = "", series, sync }) {
  const legend = el("ul", { class: "legend" });
  const plot = el("div", { class: "plot", role: "img" });
  const root = el(
    "figure",
    { class: "chart", data: { title } },
    el("figcaption", {}, el("span", { class: "title", title: note }, title), legend),
    plot,
  );
  let data = [[], ...series.map(() => [])];
  let chart;

  const describe = (index) => {
    const at = index ?? data[0].length - 1;
    fill(
      legend,
      series.map(({ label, colour }, i) => {
        const key = el("span", { class: "key" });
        key.style.background = `var(${colour})`;
        const value = index === undefined ? lastOf(data[i + 1]) : data[i + 1][at];
        return el("li", {}, key, `${label} `, el("b", {}, short(value)));
      }),
    );
    const said = series.map(({ label }, i) => `${label} ${short(lastOf(data[i + 1]))}`);
    plot.setAttribute("aria-label", `${title}: ${said.join(", ")} at step ${data[0].at(-1) ?? 0}`);
  };

  const build = () => {
    // a canvas wants the colour itself, which depends on the theme
    const colour = (name) => {
      root.style.color = `var(${name})`;
      const { color } = getComputedStyle(root);
      root.style.color = "";
      return color;
    };
    const axis = {
      stroke: colour("--muted"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    chart?.destroy();
    chart = new uPlot(
      {
        width: plot.clientWidth || 320,
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          points: { size: 6 },
          drag: { x: true, y: false },
          ...(sync ? { sync: { key: sync } } : {}),
        },
        scales: { x: { time: false, range: steps }, y: { range: room } },
        axes: [
          {
            ...axis,
            size: 26,
            values: (_, marks) => marks.map((mark) => (Number.isInteger(mark) ? short(mark) : "")),
          },
          { ...axis, size: 50, values: (_, marks) => marks.map(short) },
        ],
        series: [
          { label: "step" },
          ...series.map((line) => ({
            label: line.label,
            stroke: colour(line.colour),
            width: 1.75,
            spanGaps: true,
          })),
        ],
        hooks: { setCursor: [(self) => describe(self.cursor.idx ?? undefined)] },
      },
      data,
      plot,
    );
  };

  const resize = new ResizeObserver(() => {
    const width = plot.clientWidth;
    if (chart && width > 0 && width !== chart.width) chart.setSize({ width, height: HEIGHT });
  });
  return {
    root,
    set(xs, columns) {
      data = [xs, ...columns];
      root.dataset.points = xs.length;
      describe();
      if (!chart && root.isConnected) {
        build();
        resize.observe(plot);
        addEventListener("themechange", build);
      } else chart?.setData(data);
    },
    destroy() {
      resize.disconnect();
      removeEventListener("themechange", build);
      chart?.destroy();
      root.remove();
    },
  };
}

function lastOf(column) {
  for (let i = column.length - 1; i >= 0; i--)
    if (column[i] !== null && column[i] !== undefined) return column[i];
  return null;
}

/** A single step gets room to both sides. */
function steps(_, least, most) {
  if (least === null || least === undefined) return [0, 1];
  return least === most ? [least - 1, most + 1] : [least, most];
}

/** Some room above and below; a flat line lies in the middle, one of zeros at the bottom. */
function room(_, least, most) {
  if (least === null || least === undefined) return [0, 1];
  if (least === most)
    return least === 0 ? [0, 1] : [least - Math.abs(least) * 0.2, most + Math.abs(most) * 0.2];
  const pad = (most - least) * 0.06;
  return [least - pad, most + pad];
}
