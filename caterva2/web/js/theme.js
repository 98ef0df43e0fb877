// Light, dark, or as the system has it; the choice is kept in this browser.

import { el } from "./views/dom.js";

const NAMES = [["auto", "Auto"], ["light", "Light"], ["dark", "Dark"]];

/** @returns {HTMLElement} the choice */
export function themeChoice() {
  const options = NAMES.map(([value, text]) => el("option", { value, selected: value === chosen() }, text));
  return el("label.theme", {}, el("span", {}, "Colours"), el("select", { onchange: (event) => choose(event.target.value) }, ...options));
}

function chosen() {
  return document.documentElement.dataset.theme ?? "auto";
}

function choose(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Then it holds for this page.
  }
}
