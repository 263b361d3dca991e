// The chat: what was said, and the answer that comes.

import * as api from "./api.js";
import { byId, digits, el } from "./dom.js";
import { request } from "./settings.js";
import { Answer } from "./tokens.js";
import { closeTree } from "./tree.js";

const EXAMPLES = [
  "Write a short poem about a river, then repeat it word for word.",
  "Name the seven days of the week, with one sentence about each.",
  "Explain in three sentences why the sky is blue.",
];
const ENDINGS = { length: "cut off by the most tokens", stopped: "stopped" };

export class Chat {
  /**
   * @param {import("./charts.js").Charts} charts
   * @param {(tally: Object) => void} tell  how many tokens of each kind there are
   */
  constructor(charts, tell) {
    this.charts = charts;
    this.tell = tell;
    this.thread = byId("thread");
    /** What was said. @type {{role: string, content: string}[]} */
    this.messages = [];
    this.clear();
  }

  /** Begin again. */
  clear() {
    this.messages = [];
    closeTree();
    this.charts.begin();
    this.tell({});
    const example = (text) => el("button", { class: "example", type: "button", click: () => this.offer(text) }, text);
    this.thread.replaceChildren(
      el(
        "div",
        { class: "welcome" },
        el("h2", {}, "The same text, sooner"),
        el("p", {}, "Every token of an answer is marked by where it came from. Point at one to see how likely it was; choose it to see the draft of its round."),
        el("div", { class: "examples" }, ...EXAMPLES.map(example)),
      ),
    );
  }

  /** What a click on an example does; the page puts it into the field. */
  offer() {}

  /**
   * Ask, and show the answer as it comes.
   * @param {string} question
   * @param {AbortSignal} signal
   */
  async ask(question, signal) {
    this.thread.querySelector(".welcome")?.remove();
    const asked = el("div", { class: "question" }, question);
    const node = el("div", { class: "answer", "aria-busy": "true" });
    const about = el("p", { class: "about" }, "reading …");
    const turn = el("article", { class: "turn" }, asked, node, about);
    this.thread.querySelector(".retry")?.remove();
    this.thread.append(turn);
    this.#scroll(true);
    const answer = new Answer(node);
    this.charts.begin();
    this.messages.push({ role: "user", content: question });
    let finish = null;
    try {
      await api.answer(request(this.messages), signal, (part) => {
        answer.add(part);
        this.charts.add(part.rounds);
        this.tell(answer.tally);
        about.textContent = summary(answer);
        finish = part.finish || finish;
        this.#scroll(false);
      });
    } catch (error) {
      if (error.name !== "AbortError" || !answer.text) {
        this.messages.pop(); // nothing was said: the question goes back into the field
        turn.remove();
        throw error;
      }
      finish = "stopped";
    } finally {
      node.setAttribute("aria-busy", "false");
    }
    this.messages.push({ role: "assistant", content: answer.text });
    const ending = ENDINGS[finish];
    about.replaceChildren(
      [summary(answer), ending].filter(Boolean).join(" · "),
      el("button", { class: "link", type: "button", click: () => navigator.clipboard?.writeText(answer.text) }, "Copy"),
      el("button", { class: "link retry", type: "button", click: () => this.again(question, turn) }, "Retry"),
    );
    this.#scroll(false);
  }

  /** Take back the last turn, to ask again; the page sends it. */
  takeBack(turn) {
    this.messages.splice(-2);
    turn.remove();
    closeTree();
  }

  again() {}

  /** Keep the end in view, unless the reader has scrolled away from it. */
  #scroll(always) {
    const near = this.thread.scrollHeight - this.thread.scrollTop - this.thread.clientHeight < 120;
    if (always || near) this.thread.scrollTop = this.thread.scrollHeight;
  }
}

/** One line about an answer. */
export function summary(answer) {
  const rounds = [...answer.rounds.values()].filter((round) => round.emitted > 0);
  const seconds = rounds.reduce((total, round) => total + round.seconds, 0);
  const count = answer.tokens.length;
  if (!rounds.length) return count ? `${count} tokens` : "";
  return `${count} tokens · ${digits(count / seconds)}/s · ${digits(count / rounds.length)} per round`;
}
