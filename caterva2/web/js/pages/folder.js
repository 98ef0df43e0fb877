// A root or a folder: what is in it, as a table.

import { ApiError } from "../api.js";
import { bytes, count } from "../actions/units.js";
import { when } from "../times.js";
import { Folder, Root } from "../tree/model.js";
import { presence } from "../tree/presence.js";
import { el } from "../views/dom.js";
import { crumbs } from "./crumbs.js";

// More rows come when they are asked for; the tree at the side shows all.
const ROWS = 200;

export class FolderPage {
  /** @param {HTMLElement} host @param {import("../shell.js").Shell} shell */
  constructor(host, shell) {
    this.host = host;
    this.shell = shell;
    this.title = "";
    this.rows = ROWS;
    this.ended = new AbortController();
    const { signal } = this.ended;
    for (const kind of ["tree", "roots"]) shell.catalog.addEventListener(kind, () => this.soon(), { signal });
    this.notice = el("p.notice", { role: "status", hidden: true });
    this.lead = el("p.lead");
    this.body = el("tbody");
    this.more = el("button.button", { type: "button", onclick: () => this.showMore() }, "Show more");
    this.actions = el("div.actions");
    const head = el("thead", {}, el("tr", {}, ...["Name", "Kind", "Size", "Changed"].map((name) => el("th", { scope: "col" }, name))));
    this.table = el("table.table.listing", {}, head, this.body);
    this.empty = el("p.empty", { hidden: true }, "There is nothing in it.");
  }

  async show({ path }) {
    this.path = path;
    const [name] = path.split("/");
    if (!name) return this.shell.router.go(this.shell.api.pageUrl(), { replace: true });
    this.title = path;
    await this.shell.catalog.load(name);
    if (!this.folder) throw new ApiError(404, `${path} does not exist: it is neither a dataset nor a folder.`);
    this.host.replaceChildren(el("section.page", {}, crumbs(path, this.shell.api), el("h1", {}, path.split("/").at(-1)), this.lead, this.notice, this.actions, this.table, this.empty, this.more));
    this.tools ??= this.shell.actions.forFolder(this.actions, path, this.host);
    this.fill();
  }

  /** @returns {Folder|null} */
  get folder() {
    const [name, ...names] = this.path.split("/");
    const found = this.shell.catalog.roots.get(name)?.find(names.join("/"));
    return found instanceof Folder ? found : null;
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.host.isConnected && this.path && this.fill(), 100);
  }

  fill() {
    if (this.ended.signal.aborted) return;
    const { folder } = this;
    this.notice.hidden = folder !== null;
    if (!folder) {
      this.notice.textContent = "This folder is empty now: what was in it has been deleted or moved.";
      return;
    }
    const { datasets, nbytes } = folder.sum();
    const told = `${datasets === 1 ? "1 dataset" : `${count(datasets)} datasets`}, ${bytes(nbytes)}`;
    this.lead.replaceChildren(told, ...(folder instanceof Root ? about(folder) : []));
    const { children } = folder;
    this.body.replaceChildren(...children.slice(0, this.rows).map((node) => this.row(node)));
    this.table.hidden = !children.length;
    this.empty.hidden = children.length > 0;
    this.more.hidden = children.length <= this.rows;
    this.more.textContent = `Show more (${count(children.length - this.rows)} are left)`;
  }

  showMore() {
    const before = this.rows;
    this.rows += ROWS;
    this.fill();
    this.body.children[before]?.querySelector("a")?.focus();
  }

  row(node) {
    const link = (text) => el("a", { href: this.shell.api.viewUrl(node.path) }, text);
    if (node instanceof Folder) {
      const { datasets, nbytes } = node.sum();
      return el("tr", { "data-kind": "folder" }, el("th", { scope: "row" }, link(`${node.name}/`)), el("td", {}, `folder of ${count(datasets)}`), el("td.number", {}, bytes(nbytes)), el("td"));
    }
    const { kind, nbytes, mtime } = node.entry;
    return el("tr", { "data-kind": kind }, el("th", { scope: "row" }, link(node.name)), el("td", {}, kind), el("td.number", {}, bytes(nbytes)), el("td", {}, when(mtime)));
  }

  destroy() {
    clearTimeout(this.timer);
    this.tools?.destroy();
    this.ended.abort();
  }
}

function about(root) {
  const { state, word, sentence } = presence(root.about);
  return word ? [" ", el("span.presence", { "data-presence": state }, word), ` ${sentence}.`] : [` \u2013 ${sentence}.`];
}
