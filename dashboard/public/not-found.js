/** @file The 404 page: says what is missing, in the address's own words, as text. */
import { byId } from "./dom.js";

const [place, name, part] = location.pathname.split("/").slice(1).map(decoded);
if (place === "runs" && name) {
  const report = part === "report";
  byId("title").textContent = report ? "No report" : "No such run";
  byId("message").textContent = report
    ? `There is no run named “${name}” here, or it has no report yet; \`rlhf eval\` writes one.`
    : `There is no run named “${name}” in this runs directory. It may have been moved or deleted, or the name is misspelled.`;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
