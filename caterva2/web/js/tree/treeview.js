// The tree of roots, folders and datasets: WAI-ARIA's pattern, with the keyboard, of any size.

import { bytes } from "../actions/units.js";
import { el, newId } from "../views/dom.js";
import { Folder, Root, visible } from "./model.js";
import { presence } from "./presence.js";
import { VirtualList } from "./virtual.js";

const PAGE = 15;
const FORGET = 700; // milliseconds after which typing looks for another name

export class TreeView {
  /**
   * @param {HTMLElement} host
   * @param {import("./catalog.js").Catalog} catalog
   * @param {{href: (path: string) => string, go: (path: string) => void}} actions
   */
  constructor(host, catalog, { href, go }) {
    this.catalog = catalog;
    this.href = href;
    this.go = go;
    this.id = newId("tree");
    this.element = el("div.tree", { role: "tree", tabindex: "0", "aria-label": "Roots and datasets", onkeydown: (event) => this.key(event), onclick: (event) => this.click(event) });
    host.append(this.element);
    /** @type {import("./model.js").Node[]} */
    this.rows = [];
    /** @type {import("./model.js").Dataset[]|null} what a search has found, instead of the tree */
    this.found = null;
    this.active = "";
    this.current = "";
    this.typed = "";
    this.list = new VirtualList(this.element, (i) => this.row(this.rows[i], i), () => this.rowHeight);
    this.measure();
    matchMedia("(pointer: coarse)").addEventListener("change", () => this.measure());
    catalog.addEventListener("roots", () => this.soon());
    catalog.addEventListener("tree", () => this.soon());
  }

  measure() {
    this.rowHeight = matchMedia("(pointer: coarse)").matches ? 44 : 28;
    this.list.fill(this.rows.length);
  }

  soon() {
    this.frame ||= requestAnimationFrame(() => this.refresh());
  }

  refresh() {
    this.frame = 0;
    this.rows = this.found ? this.found.filter(({ gone }) => !gone) : visible(this.catalog.roots.values());
    this.list.fill(this.rows.length);
    const at = this.index();
    if (at >= 0 && this.element.matches(":focus")) this.mark(at);
  }

  /** Show what a search has found; null is the tree again. @param {import("./model.js").Dataset[]|null} found */
  show(found) {
    this.found = found;
    this.active = "";
    this.element.scrollTop = 0;
    this.refresh();
    if (!found) this.reveal(this.current);
  }

  /** Open what is above a path, and mark it as what is looked at. @param {string} path */
  reveal(path) {
    this.current = path;
    const [name, ...names] = path.split("/");
    const root = this.catalog.roots.get(name);
    if (!root || this.found) return this.refresh();
    let node = /** @type {any} */ (root);
    for (const each of names) {
      if (!(node instanceof Folder)) break;
      node.open = true;
      node = node.datasets.get(each) ?? node.folders.get(each);
    }
    if (node instanceof Folder) node.open = true;
    this.active = path;
    this.refresh();
    const at = this.index();
    if (at >= 0) this.list.reveal(at);
  }

  index() {
    return this.rows.findIndex(({ path }) => path === this.active);
  }

  row(node, i) {
    const folder = node instanceof Folder;
    const top = this.found !== null;
    const attributes = {
      id: `${this.id}-${i}`,
      role: "treeitem",
      "aria-level": top ? 1 : node.level,
      "aria-setsize": top ? this.rows.length : (node.parent?.children.length ?? this.catalog.roots.size),
      "aria-posinset": top ? i + 1 : node.parent ? node.place : [...this.catalog.roots.keys()].indexOf(node.name) + 1,
      "aria-expanded": folder ? String(node.open) : null,
      "aria-selected": String(node.path === this.current),
      "data-index": i,
      "data-kind": node instanceof Root ? "root" : folder ? "folder" : node.entry.kind,
      "data-active": node.path === this.active,
    };
    const element = el("div.row", attributes, ...(folder ? folderParts(node) : datasetParts(node, top, this)));
    element.style.paddingInlineStart = `${top ? 8 : 4 + 14 * (node.level - 1)}px`;
    return element;
  }

  // With the mouse

  click(event) {
    // The rows may have been drawn anew while the button was down, so that the event is of what is around them.
    const target = event.target.closest(".row") ? event.target : document.elementFromPoint(event.clientX, event.clientY);
    const row = target?.closest(".row");
    if (!row || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const node = this.rows[Number(row.dataset.index)];
    this.active = node.path;
    if (target.closest(".twist")) this.toggle(node);
    else this.follow(node);
  }

  follow(node) {
    if (node instanceof Folder && !node.open) this.toggle(node);
    else if (node instanceof Folder && node.path === this.current) this.toggle(node);
    this.go(node.path);
  }

  toggle(node, open = !node.open) {
    if (!(node instanceof Folder) || node.open === open) return;
    node.open = open;
    if (node instanceof Root && open) this.catalog.load(node.name).catch(() => {});
    this.refresh();
  }

  /** Open all folders that are beside one. */
  toggleAll({ parent }) {
    for (const each of parent?.children ?? []) if (each instanceof Folder) each.open = true;
    this.refresh();
  }

  // With the keyboard

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = Math.max(0, this.index());
    const node = this.rows[at];
    if (!node) return;
    const moves = {
      ArrowDown: () => this.mark(at + 1),
      ArrowUp: () => this.mark(at - 1),
      PageDown: () => this.mark(at + PAGE),
      PageUp: () => this.mark(at - PAGE),
      Home: () => this.mark(0),
      End: () => this.mark(this.rows.length - 1),
      ArrowRight: () => (node instanceof Folder && !node.open ? this.toggle(node) : node instanceof Folder && this.mark(at + 1)),
      ArrowLeft: () => (node instanceof Folder && node.open && !this.found ? this.toggle(node, false) : node.parent && this.markNode(node.parent)),
      Enter: () => this.follow(node),
      " ": () => this.follow(node),
      "*": () => this.toggleAll(node),
    };
    if (moves[event.key]) moves[event.key]();
    else if (event.key.length === 1 && event.key !== "/") this.typeahead(event.key, at);
    else return;
    event.preventDefault();
    this.markNode(this.rows[this.index()] ?? node);
  }

  mark(at) {
    const i = Math.max(0, Math.min(at, this.rows.length - 1));
    if (!this.rows[i]) return;
    this.active = this.rows[i].path;
    this.list.reveal(i);
    this.element.setAttribute("aria-activedescendant", `${this.id}-${i}`);
  }

  markNode(node) {
    const at = this.rows.indexOf(node);
    if (at >= 0) this.mark(at);
  }

  typeahead(letter, at) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.typed = ""), FORGET);
    this.typed += letter.toLowerCase();
    const from = at + (this.typed.length === 1 ? 1 : 0);
    const fits = (_, i) => this.rows[(from + i) % this.rows.length].name.toLowerCase().startsWith(this.typed);
    const found = this.rows.findIndex(fits);
    if (found >= 0) this.mark((from + found) % this.rows.length);
  }
}

function folderParts(node) {
  const parts = [el("span.twist", { "aria-hidden": "true" }), el("span.name", {}, node.name)];
  if (node instanceof Root) {
    const { state, word } = presence(node.about);
    if (node.state === "loading") parts.push(el("span.note", {}, "listing\u2026"));
    else if (node.state === "failed") parts.push(el("span.note", { title: node.error }, "not listed"));
    parts.push(el("span.presence", { "data-presence": state }, word));
  }
  return parts;
}

function datasetParts(node, whole, view) {
  const above = whole ? el("span.above", {}, `${node.parent.path}/`) : null;
  const name = el("a.name", { href: view.href(node.path), tabindex: "-1", title: node.path }, above, node.name);
  return [el("span.kind", { "aria-hidden": "true" }), name, el("span.size", {}, bytes(node.entry.nbytes))];
}
