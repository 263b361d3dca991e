// Small pictures of a running answer: how fast it comes, how much of each draft stays, how far is drafted.

import { digits, el, svg } from "./dom.js";

const WIDTH = 280;
const HEIGHT = 56;
const WINDOW = 8; // rounds that a speed is taken over
const MOST = 400; // rounds in a picture: the last ones

/** Three charts over the rounds of one answer. */
export class Charts {
  /** @param {HTMLElement} node */
  constructor(node) {
    this.speed = new Chart("Tokens per second");
    this.emitted = new Chart("Tokens per round");
    this.lookahead = new Chart("Lookahead");
    node.replaceChildren(this.speed.node, this.emitted.node, this.lookahead.node);
    this.begin();
  }

  /** Forget the last answer. */
  begin() {
    this.rounds = [];
    this.#draw();
  }

  /** @param {Object[]} rounds  of the extension, the new ones */
  add(rounds) {
    const deciding = rounds.filter((round) => round.emitted > 0);
    if (!deciding.length) return;
    this.rounds.push(...deciding);
    this.#draw();
  }

  #draw() {
    const rounds = this.rounds.slice(-MOST);
    const plain = plainSpeed(rounds);
    const now = speeds(rounds);
    this.speed.draw(now, plain && rounds.map(() => plain));
    this.speed.say(last(now), plain ? `without speculation about ${digits(plain)}` : "");
    const emitted = rounds.map((round) => round.emitted);
    this.emitted.draw(emitted, rounds.map(() => 1));
    this.emitted.say(mean(emitted), "on average; 1 without speculation");
    const drafted = rounds.map((round) => round.drafted);
    this.lookahead.draw(drafted);
    this.lookahead.say(last(drafted), "tokens drafted in the last round");
  }
}

/** The speed around each round, in tokens per second. */
function speeds(rounds) {
  return rounds.map((_, place) => {
    const recent = rounds.slice(Math.max(0, place - WINDOW + 1), place + 1);
    return sum(recent.map((round) => round.emitted)) / sum(recent.map((round) => round.seconds));
  });
}

/** What plain decoding would do, by the measured cost of a pass of one token; 0 where it was not measured. */
function plainSpeed(rounds) {
  const seconds = rounds.map((round) => round.plain).filter((each) => each > 0);
  return seconds.length ? 1 / mean(seconds) : 0;
}

class Chart {
  constructor(title) {
    this.number = el("strong", {}, "–");
    this.words = el("span", {}, "");
    this.reference = svg("polyline", { class: "reference" });
    this.area = svg("polygon", { class: "area" });
    this.line = svg("polyline", { class: "line" });
    const picture = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      this.area,
      this.reference,
      this.line,
    );
    this.node = el("figure", { class: "chart" }, el("figcaption", {}, el("h2", {}, title), this.number, this.words), picture);
  }

  say(number, words) {
    this.number.textContent = number === undefined ? "–" : digits(number);
    this.words.textContent = number === undefined ? "" : words;
  }

  /**
   * @param {number[]} values
   * @param {number[]|0} reference  another line, on the same scale
   */
  draw(values, reference = 0) {
    const most = Math.max(...values, ...(reference || []), 1e-9) * 1.08;
    const points = (numbers) =>
      numbers.map((value, place) => `${x(place, numbers.length)},${(HEIGHT - 1 - (value / most) * (HEIGHT - 2)).toFixed(1)}`);
    const line = points(values);
    this.line.setAttribute("points", line.join(" "));
    this.area.setAttribute("points", line.length ? [`0,${HEIGHT}`, ...line, `${WIDTH},${HEIGHT}`].join(" ") : "");
    this.reference.setAttribute("points", reference ? points(reference).join(" ") : "");
  }
}

const x = (place, count) => (count < 2 ? WIDTH : ((place * WIDTH) / (count - 1)).toFixed(1));
const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
const mean = (numbers) => (numbers.length ? sum(numbers) / numbers.length : undefined);
const last = (numbers) => numbers[numbers.length - 1];
