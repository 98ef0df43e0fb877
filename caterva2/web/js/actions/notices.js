// Notices: what has been done, said in a live region, with a way back while there is one.

import { el } from "../views/dom.js";

const LASTS = 8000; // milliseconds

/** Shows notices, one below the other. */
export class Notices {
  /** @param {HTMLElement} host where they are; it is made a live region */
  constructor(host) {
    this.host = host;
    host.classList.add("a-notices");
    host.setAttribute("role", "status");
    host.setAttribute("aria-live", "polite");
  }

  /**
   * @param {string} text
   * @param {{kind?: "done"|"error", undo?: () => unknown, over?: () => unknown}} [options] `over` is called when it
   *   goes without an undo
   * @returns {() => void} lets it go
   */
  say(text, { kind = "done", undo, over } = {}) {
    const notice = el("div.a-notice", { "data-kind": kind }, el("span", {}, text));
    let ended = false;
    const end = (undone) => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      notice.remove();
      (undone ? undo : over)?.();
    };
    if (undo) notice.append(el("button.a-button", { type: "button", onclick: () => end(true) }, "Undo"));
    notice.append(el("button.a-close", { type: "button", "aria-label": "Dismiss", onclick: () => end(false) }, "\u00d7"));
    // Whoever reads it, or is on its way to the button, has time.
    let timer = 0;
    const start = () => { timer = kind === "error" ? 0 : setTimeout(() => end(false), LASTS); };
    for (const stay of ["pointerenter", "focusin"]) notice.addEventListener(stay, () => clearTimeout(timer));
    for (const go of ["pointerleave", "focusout"]) notice.addEventListener(go, start);
    start();
    this.host.append(notice);
    return () => end(false);
  }

  /** @param {any} error in the server's words, if it said some */
  fail(error) {
    this.say(error?.detail ?? error?.message ?? String(error), { kind: "error" });
  }
}
