/** @file Numbers, times and names as people read them. */

/** A number in few characters: 0.0123, 1.25, 12.3k, 3e-8; – where there is none. */
export function short(value) {
  return plain(value).replaceAll("-", "−");
}

function plain(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e9) return value.toExponential(1).replace("e+", "e");
  if (size >= 1e6) return `${trim((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e4) return `${trim((value / 1e3).toPrecision(3))}k`;
  if (size >= 1000) return value.toFixed(0);
  return trim(value.toPrecision(size >= 1 ? 4 : 3));
}

const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

/** `2 h 5 min`, `3 min 10 s`, `8.2 s`, `12 ms`. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${trim(seconds.toFixed(1))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `24 Nov 2026, 10:20:30`, in the reader's own zone. */
export function when(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.valueOf())
    ? "–"
    : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

/** `running`; states are shown small. */
export const state = (name) => name.toLowerCase();
