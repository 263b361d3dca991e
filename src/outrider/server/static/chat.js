// The chat: what was said, and the answer that comes.

import * as api from "./api.js";
import { byId, counted, digits, el } from "./dom.js";
import { request } from "./settings.js";
import { Answer } from "./tokens.js";
import { closeTree } from "./tree.js";

const EXAMPLES = [
  "Write a short poem about a river, then repeat it word for word.",
  "Name the seven days of the week, with one sentence about each.",
  "Explain in three sentences why the sky is blue.",
];
const STORE = "outrider-chat"; // until the tab is closed, so that a reload loses nothing
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
    const said = kept();
    this.clear();
    if (said.length) this.#restore(said);
  }

  /** Begin again. */
  clear() {
    this.#keep([]);
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
    const { turn, node, about } = this.#turn(question);
    node.setAttribute("aria-busy", "true");
    about.textContent = "reading …";
    this.#scroll(true);
    const answer = new Answer(node);
    this.charts.begin();
    const asked = [...this.messages, { role: "user", content: question }];
    this.messages = asked;
    let finish = null;
    try {
      await api.answer(request(asked), signal, (part) => {
        answer.add(part);
        this.charts.add(part.rounds);
        this.tell(answer.tally);
        about.textContent = summary(answer);
        finish = part.finish || finish;
        this.#scroll(false);
      });
    } catch (error) {
      if (this.messages !== asked) return; // a new chat was begun meanwhile
      if (error.name !== "AbortError" || !answer.text) {
        this.messages = asked.slice(0, -1); // nothing was said: the question goes back into the field
        turn.remove();
        throw error;
      }
      finish = "stopped";
    } finally {
      node.setAttribute("aria-busy", "false");
    }
    if (this.messages !== asked) return;
    this.#keep([...asked, { role: "assistant", content: answer.text }]);
    this.#conclude(turn, question, answer, ENDINGS[finish]);
    this.#scroll(false);
  }

  /** The line below an answer that has ended. */
  #conclude(turn, question, answer, ending) {
    turn.querySelector(".about").replaceChildren(
      [summary(answer), ending].filter(Boolean).join(" · "),
      el("button", { class: "link", type: "button", click: () => navigator.clipboard?.writeText(answer.text) }, "Copy"),
      el("button", { class: "link retry", type: "button", click: () => this.again(question, turn) }, "Retry"),
    );
  }

  /** Show what was said before the page was loaded again: the text, without its tokens. */
  #restore(said) {
    this.thread.replaceChildren();
    for (let place = 0; place + 1 < said.length; place += 2) {
      const [question, text] = [said[place].content, said[place + 1].content];
      const { turn, node } = this.#turn(question);
      const answer = new Answer(node);
      answer.add({ text, tokens: [], rounds: [] });
      this.#conclude(turn, question, answer);
    }
    this.#keep(said);
  }

  /** A question, with room for its answer and a line about it. Only the last answer can be asked for again. */
  #turn(question) {
    this.thread.querySelector(".welcome")?.remove();
    this.thread.querySelector(".retry")?.remove();
    const node = el("div", { class: "answer" });
    const about = el("p", { class: "about" });
    const turn = el("article", { class: "turn" }, el("div", { class: "question" }, question), node, about);
    this.thread.append(turn);
    return { turn, node, about };
  }

  #keep(messages) {
    this.messages = messages;
    try {
      sessionStorage.setItem(STORE, JSON.stringify(messages));
    } catch {
      // There is no room: a reload will lose it.
    }
  }

  /** Take back the last turn, to ask again; the page sends it. */
  takeBack(turn) {
    this.#keep(this.messages.slice(0, -2));
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

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE)) || [];
  } catch {
    return [];
  }
}

/** One line about an answer. */
export function summary(answer) {
  const rounds = [...answer.rounds.values()].filter((round) => round.emitted > 0);
  const seconds = rounds.reduce((total, round) => total + round.seconds, 0);
  const count = answer.tokens.length;
  if (!rounds.length) return count ? counted(count, "token") : "";
  return `${counted(count, "token")} · ${digits(count / seconds)}/s · ${digits(count / rounds.length)} per round`;
}
