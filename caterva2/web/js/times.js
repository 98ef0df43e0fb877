// Times as people read them.

import { el } from "./views/dom.js";

const SHORT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const LONG = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** @param {number|string} time in seconds since 1970, or in ISO's form @returns {HTMLElement} */
export function when(time) {
  const date = new Date(typeof time === "number" ? 1000 * time : time);
  if (Number.isNaN(date.getTime())) return el("span", {}, "unknown");
  return el("time", { datetime: date.toISOString(), title: LONG.format(date) }, SHORT.format(date));
}

/** @param {number} seconds before now @returns {string} */
export function timeAgo(seconds) {
  return SHORT.format(new Date(Date.now() - 1000 * seconds));
}
