// All that is done with datasets and folders, in one place for the shell: tools for the page of each, and what outlives
// pages: notices, uploads, what is about to be removed.

import { el } from "../views/dom.js";
import { callsOf } from "./calls.js";
import { askExpression } from "./expression.js";
import { Manager, isWritable } from "./manage.js";
import { Notices } from "./notices.js";
import { showQuota } from "./quota.js";
import { TakeAway } from "./takeaway.js";
import { Uploads, chooseButtons, dropZone } from "./uploads.js";

/**
 * @typedef {object} Shell what is used of `js/shell.js`
 * @property {import("./calls.js").Api} api
 * @property {{user: object|null}} session
 * @property {{go: (url: string) => void}} router
 *
 * @typedef {{update: (state: Record<string, string|undefined>) => void, destroy: () => void}} Tools
 */

/** One for the life of the page. */
export class Actions {
  /** @param {Shell} shell */
  constructor(shell) {
    this.shell = shell;
    this.calls = callsOf(shell.api);
    this.dock = el("div.a-dock", {});
    const notices = el("div", {});
    document.body.append(this.dock, notices);
    this.notices = new Notices(notices);
    this.uploads = new Uploads(this.dock, this.calls, { done: () => this.quota?.update() });
    this.manager = new Manager(this.calls, this.notices, { changed: (path, before) => this.changed(path, before) });
    /** @type {{path: string}|null} what is shown */
    this.shown = null;
    this.quota = null;
  }

  /** Show a dataset or folder. @param {string} path */
  open(path) {
    this.shell.router.go(this.shell.api.viewUrl(path));
  }

  /** Follow what is shown to its new name, and away from what is no more; the rest is told by the events. */
  changed(path, before) {
    const shown = this.shown?.path ?? "";
    if (before && (shown === before || shown.startsWith(`${before}/`))) {
      this.open(path ? path + shown.slice(before.length) : parentOf(before));
    }
    this.quota?.update();
  }

  /**
   * Tools for the page of a dataset.
   * @param {HTMLElement} host
   * @param {{path: string, info: any}} dataset
   * @returns {Tools} `update` is told the state of the view, as it stands in the URL
   */
  forDataset(host, dataset) {
    const { path, info } = dataset;
    const array = Array.isArray(info?.shape);
    const panel = el("div", { hidden: true });
    const takeAway = new TakeAway(panel, { path, array }, this.calls);
    const toggle = button("Take away", () => {
      panel.hidden = !panel.hidden;
      toggle.setAttribute("aria-expanded", String(!panel.hidden));
    });
    toggle.setAttribute("aria-expanded", "false");
    const more = this.shell.session.user && array ? [button("New expression\u2026", () => this.expression(path))] : [];
    const bar = el("div.a-tools.a-row", {}, toggle, ...more, ...this.management(path));
    host.append(bar, panel);
    this.shown = dataset;
    return {
      update: (state) => takeAway.update({ ...partOf(state), path, array }),
      destroy: () => this.left(dataset, bar, panel),
    };
  }

  /**
   * Tools for the page of a folder or root; files can be dropped on all of `target`.
   * @param {HTMLElement} host
   * @param {string} path
   * @param {HTMLElement} [target]
   * @returns {Tools}
   */
  forFolder(host, path, target = host) {
    const folder = { path };
    const bar = el("div.a-tools.a-row", {});
    const ends = [];
    if (this.shell.session.user && isWritable(path)) {
      const take = (found) => this.uploads.add(found, path);
      bar.append(chooseButtons(take), button("New expression\u2026", () => this.expression()));
      ends.push(dropZone(target, take, (error) => this.notices.fail(error)));
      this.quota = showQuota(bar, this.calls);
    }
    if (path.includes("/")) bar.append(...this.management(path, { folder: true }));
    host.append(bar);
    this.shown = folder;
    return { update: () => {}, destroy: () => { for (const end of ends) end(); this.left(folder, bar); } };
  }

  left(what, ...elements) {
    for (const element of elements) element.remove();
    if (this.shown !== what) return;
    this.shown = null;
    this.quota = null;
  }

  management(path, { folder = false } = {}) {
    if (!this.shell.session.user) return [];
    const copy = button("Copy\u2026", () => this.manager.copy(path));
    if (!isWritable(path)) return [copy];
    return [
      button("Rename\u2026", () => this.manager.rename(path)),
      button("Move\u2026", () => this.manager.move(path)),
      copy,
      button(folder ? "Remove\u2026" : "Remove", () => this.manager.remove(path, { folder }), "a-danger"),
    ];
  }

  async expression(operand) {
    const made = await askExpression(this.calls, { operand });
    if (made) this.open(made);
  }
}

function button(text, act, kind = "") {
  return el(kind ? `button.a-button.${kind}` : "button.a-button", { type: "button", onclick: act }, text);
}

/** What a view's state says of the part that is looked at. */
function partOf({ slice, field, filter, sortby, order }) {
  const reversed = sortby && order === "descending" ? "::-1" : undefined;
  return { slice: slice ?? reversed, field, filter, sortby };
}

function parentOf(path) {
  return path.slice(0, path.lastIndexOf("/"));
}
