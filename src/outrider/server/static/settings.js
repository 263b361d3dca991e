// What answers are asked with. Kept in this browser; the API key is not among it.

import { byId, el } from "./dom.js";

const STORE = "outrider-settings";
const DEFAULTS = { system: "", temperature: "", top_p: "", max_tokens: "512", seed: "", speculate: true, drafter: "", num_draft_tokens: "" };
const NO_DRAFTER = "none"; // the switch says it
const THEMES = ["", "light", "dark"];
const THEME_NAMES = { "": "◐ Auto", light: "○ Light", dark: "● Dark" };

let now = { ...DEFAULTS, ...stored() };

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) || {};
  } catch {
    return {};
  }
}

/**
 * The body of a request for an answer.
 * @param {{role: string, content: string}[]} messages
 * @param {boolean} [speculate]  default: as the settings say
 */
export function request(messages, speculate = now.speculate) {
  const body = { messages: now.system ? [{ role: "system", content: now.system }, ...messages] : messages };
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
    if (now[name] !== "") body[name] = Number(now[name]);
  }
  const wanted = speculate ? speculation() : false;
  if (wanted !== null) body.speculative = wanted;
  return body;
}

/** What is asked of speculation; null leaves it to the server. */
function speculation() {
  const wanted = {};
  if (now.drafter) wanted.drafter = now.drafter;
  if (now.num_draft_tokens !== "") wanted.num_draft_tokens = Number(now.num_draft_tokens);
  return Object.keys(wanted).length ? wanted : null;
}

/**
 * Let the user choose among the server's drafters.
 * @param {string[]} names  the one that it takes by itself first
 */
export function offerDrafters(names) {
  const [own, ...others] = names;
  const options = [
    el("option", { value: "" }, `${own || NO_DRAFTER} (the server's own)`),
    ...others.filter((name) => name !== NO_DRAFTER).map((name) => el("option", { value: name }, name)),
  ];
  if (!options.some((option) => option.value === now.drafter)) now.drafter = ""; // chosen at another server
  byId("settings").querySelector("[name=drafter]").replaceChildren(...options);
}

/** Whether the race is greedy: nothing is drawn, and both texts should be the same. */
export const greedy = () => Number(now.temperature) === 0;

/** Wire the dialog and the button of the theme. */
export function setUp() {
  const dialog = byId("settings");
  const form = dialog.querySelector("form");
  const show = () => {
    for (const field of form.elements) {
      if (field.type === "checkbox") field.checked = now[field.name];
      else if (field.name) field.value = now[field.name];
    }
  };
  const take = () => {
    for (const field of form.elements) {
      if (field.type === "checkbox") now[field.name] = field.checked;
      else if (field.name && field.validity.valid) now[field.name] = field.value;
    }
    localStorage.setItem(STORE, JSON.stringify(now));
  };
  byId("open-settings").onclick = () => {
    show();
    dialog.showModal();
  };
  form.oninput = take;
  byId("reset-settings").onclick = () => {
    now = { ...DEFAULTS };
    localStorage.removeItem(STORE);
    show();
  };
  setUpTheme(byId("theme"));
}

function setUpTheme(button) {
  const root = document.documentElement;
  const show = () => (button.textContent = THEME_NAMES[root.dataset.theme || ""]);
  button.onclick = () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme || "") + 1) % THEMES.length];
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    localStorage.setItem("outrider-theme", next);
    show();
  };
  show();
}
