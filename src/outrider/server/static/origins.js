// Where tokens come from: one list for the text, the legend, the tree and the charts. The colours are in style.css.

import { el } from "./dom.js";

/**
 * @typedef {Object} Kind
 * @property {string} name   the class of its colour: "suffix" is .o-suffix
 * @property {string} title  in the legend
 * @property {string} help   said on hover
 */

/** @type {Kind[]} */
export const KINDS = [
  { name: "suffix", title: "suffix", help: "copied from the text so far, and accepted" },
  { name: "lookup", title: "recycling, lookup", help: "what the model had in mind after these tokens before, accepted" },
  { name: "head", title: "head", help: "drafted by a trained head, and accepted" },
  { name: "model", title: "draft model", help: "drafted by a smaller model, and accepted" },
  { name: "grammar", title: "grammar", help: "the only token that the structure allows" },
  { name: "correction", title: "correction", help: "drawn by the target after it rejected a draft" },
  { name: "bonus", title: "bonus", help: "drawn by the target after it accepted the whole draft" },
  { name: "plain", title: "plain", help: "drawn by the target; nothing was drafted" },
];

// The first that matches the name of a drafter; a token of several drafters is shown as the first one's.
const DRAFTERS = [
  [/grammar|structur|forced/, "grammar"],
  [/suffix|memory|predict/, "suffix"],
  [/recycl|lookup/, "lookup"],
  [/eagle|head|medusa/, "head"],
];

/** The kind of a token: {origin: "drafted", source: "suffix+recycling"} is "suffix". */
export function kindOf(token) {
  return token.origin === "drafted" || token.origin === undefined ? kindOfSource(token.source) : token.origin;
}

/** The kind of what a drafter proposes. */
export function kindOfSource(source) {
  if (!source) return "plain";
  const found = DRAFTERS.find(([pattern]) => pattern.test(source));
  return found ? found[1] : "model";
}

/** Fill a list with all kinds, and count there: returns a function that takes {kind: tokens}. */
export function legend(list) {
  const counts = {};
  const rows = KINDS.map((kind) => {
    counts[kind.name] = el("span", { class: "count" });
    return el("li", { title: kind.help }, el("span", { class: `swatch t o-${kind.name}` }, "token"), kind.title, counts[kind.name]);
  });
  list.replaceChildren(...rows);
  return (tally) => {
    for (const kind of KINDS) counts[kind.name].textContent = tally[kind.name] || "";
  };
}
