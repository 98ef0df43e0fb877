// A page instead of one that cannot be shown.

import { el } from "../views/dom.js";

/**
 * @param {any} error
 * @param {import("../shell.js").Shell} shell
 * @returns {HTMLElement}
 */
export function failure(error, shell) {
  const { status, detail } = error;
  if (status === undefined) console.error(error);
  const title = status === 404 ? "Not found" : status === 401 || status === 403 ? "Not for you" : status === 0 ? "No answer" : "That did not work";
  const { user, users } = shell.session;
  const next = location.pathname.slice(new URL(shell.api.root).pathname.length) + location.search;
  const login = users && !user && [401, 404].includes(status);
  return el(
    "section.alone",
    { role: "alert" },
    el("h1", {}, title),
    el("p", {}, detail ?? String(error)),
    el(
      "p.buttons",
      {},
      login ? el("a.button.primary", { href: `${shell.api.pageUrl("login")}?${new URLSearchParams({ next })}` }, "Log in") : null,
      el("button.button", { type: "button", onclick: () => location.reload() }, "Try again"),
      el("a.button", { href: shell.api.pageUrl() }, "All roots"),
    ),
  );
}
