// The race: one prompt, decoded plainly and speculatively, side by side.

import * as api from "./api.js";
import { byId, counted, digits } from "./dom.js";
import { greedy, request } from "./settings.js";
import { Answer } from "./tokens.js";
import { closeTree } from "./tree.js";

class Lane {
  constructor(id, speculate) {
    const node = byId(id);
    this.speculate = speculate;
    this.node = node;
    this.figure = node.querySelector(".figure strong");
    this.text = node.querySelector(".answer");
    this.about = node.querySelector(".about");
    this.clear();
  }

  clear() {
    this.answer = new Answer(this.text);
    this.seconds = 0;
    this.rate = 0; // tokens per second; 0 where the answer is too short to tell
    this.about.textContent = "";
    this.figure.textContent = "–";
    this.node.classList.remove("running", "won");
  }

  /**
   * Decode; the time is counted from the first tokens on, so that the prompt, read by the first lane, favours none. They
   * are those that came first, not those that were shown first: a busy page shows many at once.
   */
  async run(messages, signal) {
    this.node.classList.add("running");
    this.about.textContent = "reading …";
    // Greedy, unless a temperature is set: the two texts can be compared then.
    await api.answer({ temperature: 0, ...request(messages, this.speculate) }, signal, (part) => {
      if (!part.text && !part.tokens.length) return this.answer.add(part);
      this.answer.add(part);
      const count = this.answer.tokens.length;
      if (part.first) this.seconds = (part.at - part.first.at) / 1000;
      if (this.seconds) this.rate = (count - part.first.tokens) / this.seconds;
      this.figure.textContent = this.rate ? digits(this.rate) : "–";
      this.about.textContent = `${counted(count, "token")} in ${rounds(this.answer)} passes, ${this.seconds.toFixed(1)} s`;
      this.toEnd();
    });
    this.node.classList.remove("running");
  }

  toEnd() {
    this.text.scrollTop = this.text.scrollHeight;
  }
}

const rounds = (answer) => [...answer.rounds.values()].filter((round) => round.emitted > 0).length;

export class Race {
  constructor() {
    this.plain = new Lane("lane-plain", false);
    this.speculative = new Lane("lane-speculative", true);
    this.verdict = byId("race-verdict");
    this.question = byId("race-question");
  }

  clear() {
    closeTree();
    this.plain.clear();
    this.speculative.clear();
    this.verdict.textContent = "";
    this.question.hidden = true;
  }

  /**
   * @param {string} question
   * @param {boolean} together  both at the same time; they share the passes of one engine then
   */
  async run(question, together, signal) {
    this.clear();
    this.question.textContent = question;
    this.question.hidden = false;
    const messages = [{ role: "user", content: question }];
    const lanes = [this.plain, this.speculative];
    if (together) await Promise.all(lanes.map((lane) => lane.run(messages, signal)));
    else {
      // Plain comes last: a drafter that learns from every text would know the answer otherwise.
      this.plain.about.textContent = "waiting for the other lane …";
      await this.speculative.run(messages, signal);
      await this.plain.run(messages, signal);
    }
    this.#judge(together);
  }

  #judge(together) {
    const { plain, speculative } = this;
    const shared = together ? " (both shared every pass)" : "";
    this.verdict.textContent = `${this.#timed()}${shared}. ${this.#compared()}`;
    for (const lane of [plain, speculative]) lane.toEnd(); // the verdict takes room
  }

  #timed() {
    const { plain, speculative } = this;
    if (!plain.rate || !speculative.rate) return "The texts are too short to time";
    const ratio = speculative.rate / plain.rate;
    (ratio >= 1 ? speculative : plain).node.classList.add("won");
    return ratio >= 1 ? `Speculation was ${digits(ratio)} times as fast` : `Speculation was slower here, by ${digits(1 / ratio)} times`;
  }

  #compared() {
    const [a, b] = [this.plain, this.speculative].map((lane) => lane.answer.tokens.map((token) => token.id));
    const differs = a.findIndex((token, place) => token !== b[place]);
    if (differs === -1 && a.length === b.length) return `Both texts are the same, token for token.`;
    if (!greedy()) return "The texts are two draws from one distribution.";
    const place = differs === -1 ? Math.min(a.length, b.length) : differs;
    return `The texts differ from token ${place + 1} on: two tokens were equally likely there, up to rounding.`;
  }
}
