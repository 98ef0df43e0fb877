// The way from the first page to a path, as links.

import { el } from "../views/dom.js";

/** @param {string} path @param {import("../api.js").Api} api @returns {HTMLElement} without the last name, which is the title */
export function crumbs(path, api) {
  const names = path.split("/");
  const links = names.slice(0, -1).map((name, i) => el("li", {}, el("a", { href: api.viewUrl(names.slice(0, i + 1).join("/")) }, name)));
  return el("nav.crumbs", { "aria-label": "Path" }, el("ol", {}, el("li", {}, el("a", { href: api.pageUrl() }, "Roots")), ...links));
}
