/** @file The samples of a batch: prompt, response with the advantage of each token as colour, reference answer, scores. */
import { el, fill, table } from "./dom.js";
import { short } from "./format.js";

const ORDERS = [
  ["batch", "as in the batch", () => 0],
  ["best", "highest reward first", (a, b) => rank(b) - rank(a)],
  ["worst", "lowest reward first", (a, b) => rank(a) - rank(b)],
];
const rank = (sample) => sample.reward ?? Number.NEGATIVE_INFINITY;

/** Elements of the sample table. */
export function samplesView({ samples }) {
  const largest = Math.max(
    1e-9,
    ...samples.flatMap(({ tokens }) => tokens.map(({ advantage }) => Math.abs(advantage))),
  );
  const coloured = samples.some(({ tokens }) => tokens.length > 0);
  const terms = [...new Set(samples.flatMap((sample) => Object.keys(sample.terms)))];
  const find = el("input", { type: "search", placeholder: "find in texts", "aria-label": "Find in samples" });
  const order = el(
    "select",
    { "aria-label": "Order" },
    ...ORDERS.map(([value, label]) => el("option", { value }, label)),
  );
  const body = el("div", {});
  const draw = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const compare = ORDERS.find(([name]) => name === order.value)[2];
    const found = samples
      .map((sample, index) => ({ ...sample, index }))
      .filter(({ prompt, response, answer }) => {
        const hay = `${prompt}\n${response}\n${answer}`.toLowerCase();
        return words.every((word) => hay.includes(word));
      })
      .sort(compare);
    fill(
      body,
      found.length === 0
        ? el("p", { class: "notice" }, `None of ${samples.length} samples matches.`)
        : table(
            ["#", "prompt", "response", "reference answer", ...terms, "reward"],
            found.map((sample) => row(sample, terms, largest)),
            {
              numeric: [0, ...terms.map((_, i) => 4 + i), 4 + terms.length],
              className: "stacked samples",
            },
          ),
    );
  };
  find.addEventListener("input", draw);
  order.addEventListener("change", draw);
  draw();
  return [
    el("h3", {}, "Samples ", el("span", { class: "muted" }, String(samples.length))),
    el("div", { class: "controls" }, find, order, coloured && scale(largest)),
    body,
  ];
}

function row(sample, terms, largest) {
  const { index, prompt, control, answer, reward, failure, finish, server, weightVersion } = sample;
  return [
    String(index),
    [
      control && !prompt.includes(control) && el("span", { class: "badge control" }, control),
      el("span", { class: "text" }, prompt),
    ],
    [
      response(sample, largest),
      el("small", { class: "muted source" }, `${finish} · weights ${weightVersion} · ${server}`),
    ],
    el("span", { class: "text" }, answer),
    ...terms.map((term) => short(sample.terms[term])),
    reward === null
      ? el("span", { class: "error", title: failure }, failure || "failed")
      : el("b", {}, short(reward)),
  ];
}

function response({ response: text, tokens }, largest) {
  if (tokens.length === 0) return el("span", { class: "text" }, text);
  const said = el("small", { class: "said" });
  return [
    el(
      "span",
      { class: "text tokens" },
      ...tokens.map(({ text: piece, advantage, value, kl }) => {
        const figures = `${JSON.stringify(piece)}: advantage ${short(advantage)}, value ${short(value)}, KL ${short(kl)}`;
        const token = el(
          "span",
          {
            class: `token ${advantage < 0 ? "below" : "above"}`,
            title: figures,
            data: { advantage: short(advantage) },
            on: {
              click: () => {
                said.textContent = figures;
              },
            },
          },
          piece,
        );
        token.style.setProperty("--share", `${Math.round((85 * Math.abs(advantage)) / largest)}%`);
        return token;
      }),
    ),
    said,
  ];
}

function scale(largest) {
  const mark = (kind, label) => {
    const token = el("span", { class: `token ${kind}` }, label);
    token.style.setProperty("--share", "85%");
    return token;
  };
  return el(
    "span",
    { class: "scale" },
    "advantage ",
    mark("below", ` −${short(largest)} `),
    " 0 ",
    mark("above", ` +${short(largest)} `),
  );
}
