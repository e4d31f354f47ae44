/** @file Building pages. Text only ever goes in as text: there is no way here to hand in markup. */

/**
 * An element. Properties: `class`, `on` (listeners by event), `data` (data-*), everything else an attribute (true: present, false or
 * undefined: absent). Children: elements, or anything else as text.
 */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "data") Object.assign(node.dataset, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) node.setAttribute(name, String(value));
  }
  node.append(
    ...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false),
  );
  return node;
}

/** Replaces what an element holds. */
export function fill(node, ...children) {
  node.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false),
  );
  return node;
}

export const byId = (id) => document.getElementById(id);

/** A table; cells are elements or text. `numeric`: columns that are set to the right. */
export function table(header, rows, { numeric = [], className = "" } = {}) {
  const align = (i) => (numeric.includes(i) ? "number" : undefined);
  return el(
    "div",
    { class: `scroll ${className}` },
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el("tr", {}, ...header.map((cell, i) => el("th", { scope: "col", class: align(i) }, cell))),
      ),
      el(
        "tbody",
        {},
        ...rows.map((cells) =>
          el(
            "tr",
            {},
            ...cells.map((cell, i) =>
              el("td", { class: align(i), data: { label: textOf(header[i]) } }, cell),
            ),
          ),
        ),
      ),
    ),
  );
}

function textOf(cell) {
  return typeof cell === "string" ? cell : "";
}
