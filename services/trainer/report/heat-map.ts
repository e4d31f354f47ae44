/**
 * @file The token similarities of one pair as a heat map in inline SVG, as BERTScore (arXiv:1904.09675, figure 1) draws them: each
 * candidate token's best match is framed. Pure.
 */
import { type Html, html } from "./html.js";

/** Similarities of a candidate's tokens with a reference's. */
export interface Similarities {
  readonly candidate: readonly string[];
  readonly reference: readonly string[];
  /** Row-major, [candidate, reference]. */
  readonly values: ArrayLike<number>;
}

const [CELL, LABEL_CHAR, LABEL_PAD] = [22, 7, 10];
/** Beyond this a map can't be read; what is left out is said. */
const MOST = 48;

/** The map, candidate down, reference across. */
export function heatMap({ candidate, reference, values }: Similarities): Html {
  const [rows, columns] = [candidate.slice(0, MOST), reference.slice(0, MOST)];
  const at = (row: number, column: number) => values[row * reference.length + column] ?? 0;
  const shown = rows.flatMap((_, row) => columns.map((_, column) => at(row, column)));
  if (shown.length === 0) return html`<p class="muted">A text without tokens has no similarities.</p>`;
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  const left = LABEL_PAD + LABEL_CHAR * Math.max(...rows.map((token) => token.length));
  const top = LABEL_PAD + LABEL_CHAR * Math.max(...columns.map((token) => token.length));
  const cells = rows.map((token, row) => {
    const line = columns.map((_, column) => at(row, column));
    const best = line.indexOf(Math.max(...line));
    return line.map((value, column) => {
      const share = high === low ? 1 : (value - low) / (high - low);
      return html`<rect class="cell${column === best ? " best" : ""}" x="${left + column * CELL}" y="${top + row * CELL}" width="${CELL - 1}" height="${CELL - 1}" fill-opacity="${share.toFixed(3)}"><title>${token} · ${columns[column]}: ${value.toFixed(3)}</title></rect>`;
    });
  });
  const down = rows.map(
    (token, row) =>
      html`<text class="token" text-anchor="end" x="${left - 5}" y="${top + row * CELL + 15}">${token}</text>`,
  );
  const across = columns.map((token, column) => {
    const [x, y] = [left + column * CELL + 15, top - 5];
    return html`<text class="token" transform="translate(${x} ${y}) rotate(-90)">${token}</text>`;
  });
  const [width, height] = [left + columns.length * CELL + 4, top + rows.length * CELL + 4];
  const cut = candidate.length > MOST || reference.length > MOST;
  return html`<div class="scroll"><svg class="heat" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="Token similarities">${down}${across}${cells}</svg></div>
<p class="muted">Cosine similarity from ${low.toFixed(2).replace("-", "−")} (white) to ${high.toFixed(2)} (full); the best match of each row is framed.${cut && ` The first ${MOST} tokens of each text are shown.`}</p>`;
}
