// An answer, token by token: coloured by origin, with a card on hover or focus, and a click that opens the round.

import { byId, el, visible } from "./dom.js";
import { KINDS, kindOf } from "./origins.js";

/** Which token each element shows. @type {WeakMap<Element, {token: Object, answer: Answer}>} */
const SHOWN = new WeakMap();
const TITLES = Object.fromEntries(KINDS.map((kind) => [kind.name, kind.title]));

const FENCE = "```";

/** Says which tokens of an answer are code: those between two lines that begin with a fence. */
class Fences {
  #open = false;
  #line = "";

  /** Whether this token, the next one of the text, is code. */
  holds(text) {
    const was = this.#open;
    const lines = (this.#line + text).split("\n");
    this.#line = lines.pop();
    for (const line of lines) if (line.trimStart().startsWith(FENCE)) this.#open = !this.#open;
    return was && !this.#line.trimStart().startsWith(FENCE);
  }
}

/** The text of one answer as it grows, and the rounds that made it. */
export class Answer {
  /** @param {HTMLElement} node  what the text is put into */
  constructor(node) {
    this.node = node;
    this.text = "";
    this.tokens = [];
    /** @type {Map<number, Object>} */
    this.rounds = new Map();
    /** Tokens by kind. */
    this.tally = {};
    this.fences = new Fences();
    node.classList.add("tokens");
    node.replaceChildren();
  }

  /** The server's numbers of the rounds, in their order; it counts on from answer to answer. */
  get numbers() {
    return [...this.rounds.keys()].sort((a, b) => a - b);
  }

  /** Take a part of a stream. */
  add({ text, tokens, rounds }) {
    this.text += text;
    for (const round of rounds) this.rounds.set(round.round, round);
    if (tokens.length) this.node.append(...tokens.map((token) => this.#shown(token)));
    else if (text) this.node.append(text); // a server that tells no tokens
  }

  #shown(token) {
    const kind = kindOf(token);
    this.tally[kind] = (this.tally[kind] || 0) + 1;
    this.tokens.push(token);
    // One stop of the Tab key for the whole answer; arrows go on from there.
    const look = this.fences.holds(token.text) ? `t code o-${kind}` : `t o-${kind}`;
    const node = el("span", { class: look, tabindex: this.tokens.length === 1 ? 0 : -1 }, token.text);
    SHOWN.set(node, { token, answer: this });
    return node;
  }
}

/**
 * Wire cards, arrow keys and clicks for all answers inside an element.
 * @param {HTMLElement} root
 * @param {(answer: Answer, round: number) => void} open  shows the draft of a round
 */
export function watchTokens(root, open) {
  const found = (event) => (event.target instanceof Element && SHOWN.has(event.target) ? event.target : null);
  root.addEventListener("pointerover", (event) => showCard(found(event)));
  root.addEventListener("focusin", (event) => showCard(found(event)));
  root.addEventListener("pointerleave", () => showCard(null));
  root.addEventListener("focusout", () => showCard(null));
  root.addEventListener("scroll", () => showCard(null), true);
  const choose = (node) => {
    const { token, answer } = SHOWN.get(node);
    open(answer, token.round);
  };
  root.addEventListener("click", (event) => {
    if (found(event) && !String(getSelection())) choose(event.target); // a selection is no click
  });
  root.addEventListener("keydown", (event) => {
    const node = found(event);
    if (!node) return;
    if (event.key === "Escape") showCard(null);
    const next = { ArrowRight: node.nextElementSibling, ArrowLeft: node.previousElementSibling }[event.key];
    if (next) move(node, next);
    else if (event.key === "Enter" || event.key === " ") choose(node);
    else return;
    event.preventDefault();
  });
}

function move(from, to) {
  from.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

/** Underlay the tokens of one round, and bring them into view. */
export function mark(answer, round) {
  for (const node of document.querySelectorAll(".t.marked")) node.classList.remove("marked");
  const marked = [...answer.node.children].filter((node) => SHOWN.get(node)?.token.round === round);
  for (const node of marked) node.classList.add("marked");
  marked[0]?.scrollIntoView({ block: "nearest" });
}

function showCard(node) {
  const card = byId("card");
  card.hidden = !node;
  if (!node) return;
  const { token, answer } = SHOWN.get(node);
  card.replaceChildren(el("strong", {}, visible(token.text)), el("dl", {}, ...rows(token, answer)));
  place(card, node.getClientRects()[0]);
}

function rows(token, answer) {
  const kind = kindOf(token);
  const facts = [["origin", token.source ? `${token.origin}: ${token.source}` : TITLES[kind] || token.origin]];
  if (typeof token.logprob === "number") facts.push(["probability", percent(Math.exp(token.logprob))]);
  const round = answer.rounds.get(token.round);
  if (round) facts.push(["round", `${answer.numbers.indexOf(token.round) + 1}: ${said(round)}`]);
  return facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
}

const said = (round) => (round.drafted ? `${round.accepted} of ${round.drafted} drafted accepted` : "nothing drafted");

/** A probability: 0.5 is "50 %", and what is small is not 0. */
export function percent(value) {
  const hundredths = 100 * value;
  if (hundredths >= 10 || hundredths === 0) return `${hundredths.toFixed(0)} %`;
  return hundredths < 0.01 ? "under 0.01 %" : `${hundredths.toPrecision(2)} %`;
}

function place(card, box) {
  if (!box) return;
  const { width, height } = card.getBoundingClientRect();
  const above = box.top - height - 8;
  card.style.left = `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`;
  card.style.top = `${above > 8 ? above : box.bottom + 8}px`;
}
