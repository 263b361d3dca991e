// The draft of one round, drawn from left to right: what was accepted, what was rejected, what came instead.

import { byId, counted, el, svg, visible } from "./dom.js";
import { kindOf, kindOfSource } from "./origins.js";
import { mark, percent } from "./tokens.js";

const COLUMN = 108; // from a node to its children, in pixels
const ROW = 34;
const BOX = { width: 88, height: 24 };
const LETTERS = 10; // of a token that fit into a box
const ROOT = -1;

/**
 * A node that is drawn.
 * @typedef {{id: number|string, text: string, kind: string, state: string, help: string, children: Node[], x: number, y: number}} Node
 */

/** Show the draft of a round below the text. */
export function openTree(answer, number) {
  const drawer = byId("tree");
  const round = answer.rounds.get(number);
  if (!round) return;
  const numbers = answer.numbers;
  const place = numbers.indexOf(number);
  const go = (step) => {
    const next = numbers[place + step];
    if (next === undefined) return;
    openTree(answer, next);
    const again = drawer.querySelector(step < 0 ? ".previous" : ".next");
    (again.disabled ? drawer.querySelector(".close") : again).focus(); // or the keys would be heard no more
  };
  const close = () => (drawer.hidden = true);
  drawer.onkeydown = (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "ArrowLeft") go(-1);
    else if (event.key === "ArrowRight") go(1);
    else return;
    event.preventDefault();
  };
  const button = (name, text, label, act, disabled = false) =>
    el("button", { class: `quiet ${name}`, type: "button", "aria-label": label, disabled, click: act }, text);
  drawer.replaceChildren(
    el(
      "header",
      {},
      el("h2", {}, `Round ${place + 1}`),
      el("p", {}, words(round)),
      button("previous", "‹", "The round before", () => go(-1), place === 0),
      button("next", "›", "The next round", () => go(1), place === numbers.length - 1),
      button("close", "×", "Close", close),
    ),
    el("div", { class: "picture" }, drawn(answer, round)),
  );
  drawer.hidden = false;
  mark(answer, number); // after the drawer has taken its room
}

/** Close it, where it belongs to an answer that goes away. */
export const closeTree = () => (byId("tree").hidden = true);

function words(round) {
  if (!round.drafted) return "Nothing was drafted: the pass gave one token, as in plain decoding.";
  return `${counted(round.drafted, "token")} drafted, ${round.accepted} accepted, ${round.emitted} emitted in one pass of ${(1000 * round.seconds).toFixed(0)} ms.`;
}

function drawn(answer, round) {
  const root = treeOf(answer, round);
  const rows = laidOut(root, 0, 0);
  const all = [...walk(root)];
  const columns = Math.max(...all.map((node) => node.x)) + 1;
  const width = columns * COLUMN;
  const height = Math.max(rows, 1) * ROW;
  const edges = all.flatMap((node) => node.children.map((child) => edge(node, child)));
  return svg(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description(all) },
    ...edges,
    ...all.map(box),
  );
}

/** The nodes of a round. The token that came last hangs on the end of the accepted path. */
function treeOf(answer, round) {
  const tokens = answer.tokens.filter((token) => token.round === round.round);
  const before = answer.tokens[tokens.length ? answer.tokens.indexOf(tokens[0]) - 1 : answer.tokens.length - 1];
  const root = node(ROOT, before ? before.text : "prompt", "root", "pending", "the last token before this round");
  const nodes = new Map([[ROOT, root]]);
  let end = root; // of the accepted path
  round.nodes.forEach(({ text, parent, accepted, source, chance }, place) => {
    const state = accepted ? "accepted" : "rejected";
    const expected = typeof chance === "number" ? `, expected to be accepted with ${percent(chance)}` : "";
    const each = node(place, text, kindOfSource(source), state, `${state}; from ${source}${expected}`);
    nodes.set(place, each);
    nodes.get(parent).children.push(each);
    if (accepted) end = each; // parents stand before their children
  });
  const drawnLast = tokens.find((token) => token.origin !== "drafted");
  if (drawnLast) end.children.push(node("drawn", drawnLast.text, kindOf(drawnLast), "drawn", `${drawnLast.origin}: drawn by the target`));
  // What stays is drawn first, so that the accepted path is a straight line.
  const order = { accepted: 0, drawn: 1, rejected: 2 };
  for (const each of nodes.values()) each.children.sort((a, b) => order[a.state] - order[b.state]);
  return root;
}

const node = (id, text, kind, state, help) => ({ id, text, kind, state, help, children: [], x: 0, y: 0 });

/** Give every node its place; returns how many rows the tree takes. */
function laidOut(node, column, row) {
  node.x = column;
  node.y = row;
  if (!node.children.length) return 1;
  let rows = 0;
  for (const child of node.children) rows += laidOut(child, column + 1, row + rows);
  return rows;
}

function* walk(node) {
  yield node;
  for (const child of node.children) yield* walk(child);
}

function edge(from, to) {
  const [x1, y1] = [from.x * COLUMN + BOX.width, from.y * ROW + ROW / 2];
  const [x2, y2] = [to.x * COLUMN, to.y * ROW + ROW / 2];
  const middle = (x1 + x2) / 2;
  return svg("path", { class: `edge ${to.state}`, d: `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
}

function box(node) {
  const shown = visible(node.text);
  const label = shown.length > LETTERS ? `${shown.slice(0, LETTERS - 1)}…` : shown;
  const [x, y] = [node.x * COLUMN, node.y * ROW + (ROW - BOX.height) / 2];
  return svg(
    "g",
    { class: `node ${node.state} o-${node.kind}` },
    svg("title", {}, `${shown}: ${node.help}`),
    svg("rect", { x: x + 1, y, ...BOX, rx: 6 }),
    svg("text", { x: x + BOX.width / 2, y: y + BOX.height / 2 }, label),
  );
}

function description(nodes) {
  const of = (state) => nodes.filter((node) => node.state === state).map((node) => visible(node.text)).join(" ") || "none";
  return `Accepted: ${of("accepted")}. Drawn by the target: ${of("drawn")}. Rejected: ${of("rejected")}.`;
}
