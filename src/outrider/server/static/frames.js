// Answers may come faster than a screen can show: what arrives between two frames is shown at once.

/**
 * @typedef {Object} Part
 * @property {string} text
 * @property {Object[]} tokens
 * @property {import("./api.js").Round[]} rounds
 * @property {string|null} finish  why the answer ended
 * @property {number} at           when the last of it came, in milliseconds
 * @property {?{at: number, tokens: number}} first  when the answer's first tokens came, and how many; null before them
 */

/** Gathers parts, and hands them on once per frame. */
export class Frames {
  /** @param {(part: Part) => void} hear */
  constructor(hear) {
    this.hear = hear;
    this.waiting = null;
    this.frame = 0;
  }

  /** @param {Part} part */
  add(part) {
    const before = this.waiting;
    if (!before) {
      this.waiting = part;
      this.frame = requestAnimationFrame(() => this.flush());
      return;
    }
    before.text += part.text;
    before.tokens.push(...part.tokens);
    before.rounds.push(...part.rounds);
    before.finish = part.finish || before.finish;
    before.at = part.at;
    before.first = part.first;
  }

  /** Hand on what waits. */
  flush() {
    cancelAnimationFrame(this.frame);
    const part = this.waiting;
    this.waiting = null;
    if (part) this.hear(part);
  }
}
