// Elements are made with what they hold as text, never from HTML.

const SVG = "http://www.w3.org/2000/svg";
let numbers = 0;

/**
 * Make an element.
 * @param {string} tag "button", or with classes "button.quiet"
 * @param {Record<string, unknown>} [properties] attributes, or with "on" handlers: {onclick: ...}; null is left out
 * @param {...(Node|string|null)} children
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag.split(".")[0]), tag, properties, children);
}

/**
 * The same for a drawing.
 * @param {string} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node|string|null)} children
 * @returns {any}
 */
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag.split(".")[0]), tag, properties, children);
}

function filled(element, tag, properties, children) {
  const classes = tag.split(".").slice(1);
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** @param {string} [stem] @returns {string} an id that nothing else has */
export function newId(stem = "v") {
  numbers += 1;
  return `${stem}-${numbers}`;
}

/**
 * A labelled choice.
 * @param {string} label
 * @param {readonly (string|string[])[]} options texts, or values with texts
 * @param {string} value
 * @param {(value: string) => void} onchoice
 * @returns {{element: HTMLElement, select: HTMLSelectElement}}
 */
export function choice(label, options, value, onchoice) {
  const id = newId("choice");
  const items = options.map((option) => {
    const [key, text] = Array.isArray(option) ? option : [option, option];
    return el("option", { value: key, selected: key === value }, text);
  });
  const select = el("select", { id, onchange: () => onchoice(select.value) }, ...items);
  return { element: el("span.v-field", {}, el("label", { for: id }, label), select), select };
}

/**
 * Choices for a state: each sets its key, or clears it when it is the first of the options.
 * @param {(change: Record<string, string|undefined>) => void} change
 */
export function stateChoice(change, key, label, options, value) {
  const first = Array.isArray(options[0]) ? options[0][0] : options[0];
  return choice(label, options, value ?? first, (chosen) => change({ [key]: chosen === first ? undefined : chosen }));
}

/**
 * What opens below a button; Escape closes it, and so does going elsewhere.
 * @param {string} name
 * @param {Node[]} items
 * @returns {HTMLDetailsElement}
 */
export function menu(name, items) {
  const summary = el("summary", {}, name);
  const details = el("details.v-menu", {}, summary, el("div.v-checks", {}, ...items));
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !details.open) return;
    event.stopPropagation();
    details.open = false;
    summary.focus();
  });
  details.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && !details.contains(relatedTarget)) details.open = false;
  });
  return details;
}

/**
 * Call something when an element has got another size, but not for each pixel of the way.
 * @param {Element} element
 * @param {() => void} react
 * @returns {() => void} stops it
 */
export function onResize(element, react) {
  let frame = 0;
  const observer = new ResizeObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(react);
  });
  observer.observe(element);
  return () => {
    cancelAnimationFrame(frame);
    observer.disconnect();
  };
}
