// Elements without HTML: text always stays text.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Fill an element with attributes and children.
 * @param {Element} node
 * @param {Object<string, string|number|boolean|Function|null>} attributes  functions become listeners: {click: f}
 * @param {(Node|string)[]} children
 */
function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children);
  return node;
}

/** An HTML element: el("p", {class: "x"}, "text", child). */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** The element with this id. @returns {HTMLElement} */
export const byId = (id) => document.getElementById(id);

/** A number with as many digits as its size deserves. */
export function digits(value) {
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value)) return String(value);
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

/** How many of something: 1 token, 2 tokens. */
export const counted = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;

/** A token as it can be shown in one line: spaces and line ends are visible. */
export function visible(text) {
  return text === "" ? "(no text)" : text.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
}
