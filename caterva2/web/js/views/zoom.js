// Buttons for what mouse and keys do, for those who have neither at hand.

import { el } from "./dom.js";

/**
 * @param {{zoom: (factor: number) => void, go: (look: any) => void, look: any}} plot
 * @returns {HTMLElement}
 */
export function zoomButtons(plot) {
  const button = (text, label, act) =>
    el("button.v-button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
  return el(
    "span.v-buttons",
    { role: "group", "aria-label": "Zoom" },
    button("+", "Zoom in", () => plot.zoom(0.5)),
    button("\u2212", "Zoom out", () => plot.zoom(2)),
    button("All", "Show all", () => plot.go(plot.look.whole())),
  );
}
