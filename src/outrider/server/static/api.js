// The server: OpenAI's chat completions, with Outrider's extension that tells tokens and rounds.

import { byId } from "./dom.js";
import { Frames } from "./frames.js";

const KEY = "outrider-key";

/** The server refused, or is gone. */
export class ServerError extends Error {}

/**
 * The server's model, what drafts for it, and what a request may name in its place, the server's own first.
 * @returns {Promise<{name: string, drafter: string|null, drafters: string[]}>}
 */
export async function model() {
  const answer = await asked("v1/models", {});
  const [{ id, outrider }] = (await answer.json()).data;
  return { name: id, drafter: outrider?.drafter || null, drafters: outrider?.drafters || [] };
}

/**
 * Ask for an answer, and hear of it as it comes.
 * @param {Object} body    as for /v1/chat/completions
 * @param {AbortSignal} signal
 * @param {(part: import("./frames.js").Part) => void} hear
 */
export async function answer(body, signal, hear) {
  const request = {
    stream: true,
    outrider: { tokens: true, rounds: true },
    ...body,
  };
  const response = await asked("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });
  const frames = new Frames(hear);
  let first = null;
  try {
    for await (const chunk of events(response.body)) {
      if (chunk.error) throw new ServerError(chunk.error.message || "the server failed");
      const choice = (chunk.choices || [])[0];
      const extension = chunk.outrider || {};
      const at = performance.now();
      const tokens = extension.tokens || [];
      if (!first && tokens.length) first = { at, tokens: tokens.length };
      frames.add({
        text: choice?.delta?.content || "",
        tokens,
        rounds: (extension.rounds || []).map(roundOf),
        finish: choice?.finish_reason || null,
        at,
        first,
      });
    }
  } finally {
    frames.flush();
  }
}

/**
 * What happened in a round.
 * @typedef {Object} Round
 * @property {number} round     counted by the engine, over all texts
 * @property {number} rows      texts that took part
 * @property {number} seconds
 * @property {number} plain     seconds that it would take without a draft, from measured costs; 0 if they are unknown
 * @property {{id: number, text: string, parent: number, accepted: boolean, source: string, chance: number|null}[]} nodes
 *   the draft, parents before children; the parent of a first token is -1
 * @property {number} drafted   how many
 * @property {number} accepted  of these
 * @property {number} emitted   tokens of text, one more than accepted unless the text ended
 */

/** @returns {Round} */
function roundOf(told) {
  const { drafting, verification, elsewhere } = told.seconds;
  return {
    round: told.round,
    rows: told.rows,
    seconds: drafting + verification + elsewhere,
    plain: told.plain_seconds || 0,
    nodes: told.drafted,
    drafted: told.drafted.length,
    accepted: told.accepted,
    emitted: told.emitted.length,
  };
}

async function asked(path, init) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...init.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...init, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("the server does not answer: is it running?");
    }
    if (response.ok) return response;
    if (response.status !== 401) throw new ServerError(await complaint(response));
    sessionStorage.setItem(KEY, await askForKey(key !== null));
  }
}

async function complaint(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered ${response.status}`;
  }
}

/** @param {boolean} refused  whether a key was given, and is wrong */
function askForKey(refused) {
  const dialog = byId("key");
  byId("key-refused").hidden = !refused;
  const field = dialog.querySelector("input");
  field.value = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.onclose = () => (field.value ? resolve(field.value) : reject(new ServerError("the server asks for an API key")));
  });
}

/** The JSON values of a stream of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}
