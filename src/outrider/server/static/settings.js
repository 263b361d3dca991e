// What answers are asked with. Kept in this browser; the API key is not among it.

import { byId } from "./dom.js";

const STORE = "outrider-settings";
const DEFAULTS = { system: "", temperature: "", top_p: "", max_tokens: "512", seed: "", speculate: true };
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
  if (!speculate) body.speculative = false;
  return body;
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
