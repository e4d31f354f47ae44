/** @file The report's styles: inside the page, light or dark as the reader's system is, and fit for paper. */

/** A style sheet. */
export const REPORT_STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1d2126, #e7e9ec); --back: light-dark(#ffffff, #14171b);
  --muted: light-dark(#656d76, #98a1ac); --line: light-dark(#dcdcd6, #2d333b); --soft: light-dark(#f6f6f3, #1c2026);
  --c1: light-dark(#2563a8, #6fb0f5); --c2: light-dark(#12805c, #4fc79a); --c3: light-dark(#c2480c, #f0935a); --c4: light-dark(#7a45c9, #b795f2); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.25rem 4rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.muted { color: var(--muted); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 600; font-size: .82rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.up { color: var(--c2); font-weight: 600; }
.down { color: var(--c3); font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: .92rem; }
svg { max-width: 100%; height: auto; }
svg.heat { max-width: none; }
.grid { stroke: var(--line); }
.tick { fill: var(--muted); font: 11px system-ui, sans-serif; }
.line { fill: none; stroke-width: 1.75; }
.line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); } .line.c4 { stroke: var(--c4); }
.key.c1, .key.c2, .key.c3, .key.c4 { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .3rem; }
.key.c1 { background: var(--c1); } .key.c2 { background: var(--c2); } .key.c3 { background: var(--c3); } .key.c4 { background: var(--c4); }
.dot.c1 { fill: var(--c1); } .dot.c2 { fill: var(--c2); } .dot.c3 { fill: var(--c3); } .dot.c4 { fill: var(--c4); }
.legend { display: inline-flex; flex-wrap: wrap; gap: 0 .9rem; list-style: none; margin: 0 0 0 1rem; padding: 0; font-weight: normal;
  font-size: .82rem; color: var(--muted); }
.legend b { color: var(--ink); }
.cell { fill: var(--c1); stroke: var(--line); stroke-width: .5; }
.cell.best { stroke: var(--c3); stroke-width: 2; }
.token { fill: var(--ink); font: 12px ui-monospace, Menlo, Consolas, monospace; white-space: pre; }
.sample { border: 1px solid var(--line); border-radius: 8px; padding: .6rem .9rem; margin: .6rem 0; background: var(--soft); }
.sample dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .3rem 0 0; }
.sample dt { color: var(--muted); }
.sample dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .6rem 0; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: .86em/1.5 ui-monospace, Menlo, Consolas, monospace; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; }
code { overflow-wrap: anywhere; }
@media (max-width: 40rem) { .facts, .sample dl { grid-template-columns: 1fr; gap: 0; } dt { margin-top: .3rem; } }
@media print { body { max-width: none; } .sample, figure { break-inside: avoid; } }
`;
