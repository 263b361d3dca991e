// The page put together: tabs, the composer, the panel, and what goes wrong.

import * as api from "./api.js";
import { Charts } from "./charts.js";
import { Chat } from "./chat.js";
import { byId } from "./dom.js";
import { legend } from "./origins.js";
import { Race } from "./race.js";
import { offerDrafters, setUp as setUpSettings } from "./settings.js";
import { watchTokens } from "./tokens.js";
import { closeTree, openTree } from "./tree.js";

const field = byId("message");
const send = byId("send");
const chat = new Chat(new Charts(byId("charts")), legend(byId("legend")));
const race = new Race();
let view = "chat";
/** Of the answer that comes; null while none does. @type {AbortController|null} */
let running = null;

setUpSettings();
setUpTabs();
setUpPanel();
watchTokens(document.querySelector("main"), openTree);
chat.offer = (text) => {
  field.value = text;
  grow();
  field.focus();
};
chat.again = (question, turn) => {
  if (running) return;
  chat.takeBack(turn);
  start(question);
};
byId("new-chat").onclick = () => {
  running?.abort();
  if (view === "chat") chat.clear();
  else race.clear();
  field.focus();
};
byId("composer").onsubmit = (event) => {
  event.preventDefault();
  if (running) return running.abort();
  const question = field.value.trim();
  if (!question) return;
  field.value = "";
  grow();
  start(question);
};
field.oninput = grow;
field.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!running) byId("composer").requestSubmit();
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !document.querySelector("dialog[open]")) running.abort();
});
api.model().then(({ name, drafter, drafters }) => {
  byId("model").textContent = `${name} · ${drafter || "no drafter"}`;
  offerDrafters(drafters);
}, complain);
field.focus();

/** Ask, in the view that is open; the button stops it meanwhile. */
async function start(question) {
  running = new AbortController();
  send.textContent = "Stop";
  send.classList.add("stop");
  byId("notice").hidden = true;
  try {
    if (view === "chat") await chat.ask(question, running.signal);
    else await race.run(question, byId("race-order").querySelector("select").value === "together", running.signal);
  } catch (error) {
    if (!field.value) field.value = question;
    grow();
    if (error.name !== "AbortError") complain(error);
  } finally {
    running = null;
    send.textContent = view === "chat" ? "Send" : "Start";
    send.classList.remove("stop");
  }
}

function complain(error) {
  if (!(error instanceof api.ServerError)) console.error(error);
  const notice = byId("notice");
  notice.textContent = error.message;
  notice.hidden = false;
}

/** The field is as high as its text, up to a limit of the style. */
function grow() {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

function setUpTabs() {
  const tabs = [byId("tab-chat"), byId("tab-race")];
  const show = (tab) => {
    running?.abort();
    closeTree();
    view = tab.getAttribute("aria-controls");
    for (const each of tabs) {
      const chosen = each === tab;
      each.setAttribute("aria-selected", String(chosen));
      each.tabIndex = chosen ? 0 : -1;
      byId(each.getAttribute("aria-controls")).hidden = !chosen;
    }
    document.body.dataset.view = view;
    byId("race-order").hidden = view === "chat";
    send.textContent = view === "chat" ? "Send" : "Start";
    field.placeholder = view === "chat" ? "Ask something" : "One prompt for both";
  };
  tabs.forEach((tab, place) => {
    tab.onclick = () => show(tab);
    tab.onkeydown = (event) => {
      if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
      const other = tabs[1 - place];
      show(other);
      other.focus();
    };
  });
  show(tabs[0]);
}

function setUpPanel() {
  const open = byId("open-panel");
  const toggle = (shown) => {
    byId("panel").classList.toggle("open", shown);
    open.setAttribute("aria-expanded", String(shown));
  };
  open.onclick = () => toggle(!byId("panel").classList.contains("open"));
  byId("close-panel").onclick = () => toggle(false);
  byId("panel").onkeydown = (event) => event.key === "Escape" && toggle(false);
  byId("colours").onchange = (event) => document.body.classList.toggle("uncoloured", !event.target.checked);
}
