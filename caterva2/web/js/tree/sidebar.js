// The side of the page: search, and the tree below it.

import { count } from "../actions/units.js";
import { el, newId } from "../views/dom.js";
import { TreeView } from "./treeview.js";

const PAUSE = 120; // milliseconds without a key

export class Sidebar {
  /**
   * @param {HTMLElement} host
   * @param {import("./catalog.js").Catalog} catalog
   * @param {{href: (path: string) => string, go: (path: string) => void}} actions
   */
  constructor(host, catalog, actions) {
    this.catalog = catalog;
    const id = newId("search");
    this.input = el("input", { id, type: "search", placeholder: "Search datasets", autocomplete: "off", spellcheck: "false", "aria-keyshortcuts": "/", oninput: () => this.later(), onkeydown: (event) => this.key(event) });
    this.told = el("p.found", { role: "status" });
    host.replaceChildren(el("div.search", { role: "search" }, el("label.unseen", { for: id }, "Search datasets"), this.input, el("kbd", { "aria-hidden": "true" }, "/")), this.told);
    this.tree = new TreeView(host, catalog, actions);
    catalog.addEventListener("tree", () => this.input.value && this.later(500));
    document.addEventListener("keydown", (event) => this.shortcut(event));
  }

  shortcut(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input:not([type=range], [type=checkbox]), textarea, select, dialog")) return;
    event.preventDefault();
    document.dispatchEvent(new Event("open-side"));
    this.input.focus();
    this.input.select();
  }

  key(event) {
    if (event.key === "ArrowDown") {
      this.tree.element.focus();
      this.tree.mark(0);
    } else if (event.key === "Enter" && this.input.value) {
      // What was typed last counts, also if it has not been looked for yet.
      void this.search().then(() => this.tree.found?.length && this.tree.go(this.tree.rows[0].path));
    } else if (event.key === "Escape" && this.input.value) {
      event.stopPropagation();
      this.input.value = "";
      void this.search();
    } else {
      return;
    }
    event.preventDefault();
  }

  later(pause = PAUSE) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.search(), pause);
  }

  async search() {
    clearTimeout(this.timer);
    this.asked?.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    const text = this.input.value.trim();
    if (!text) {
      this.told.textContent = "";
      return this.tree.show(null);
    }
    await Promise.allSettled([...this.catalog.roots.keys()].map((name) => this.catalog.load(name)));
    if (signal.aborted) return;
    await this.catalog.search(text, (found) => {
      const missing = [...this.catalog.roots.values()].filter(({ state }) => state === "failed").map(({ name }) => name);
      const beside = missing.length ? `; ${missing.join(", ")} could not be listed` : "";
      this.told.textContent = `${found.length === 1 ? "1 dataset" : `${count(found.length)} datasets`} found${beside}`;
      this.tree.show(found);
    }, signal);
  }
}
