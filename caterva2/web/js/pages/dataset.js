// A dataset: the views of it, what is known of it, and what happens to it meanwhile.

import { el } from "../views/dom.js";
import { viewsFor } from "../views/registry.js";
import { crumbs } from "./crumbs.js";
import { facts, form } from "./facts.js";

const PAUSE = 150; // milliseconds in which changes are taken together

export class DatasetPage {
  /** @param {HTMLElement} host @param {import("../shell.js").Shell} shell */
  constructor(host, shell) {
    this.host = host;
    this.shell = shell;
    this.title = "";
    this.path = "";
    this.dataset = null;
    this.view = null;
    this.ended = new AbortController();
    const { signal } = this.ended;
    shell.live.addEventListener("change", ({ detail }) => this.changed(detail), { signal });
    shell.live.addEventListener("reset", () => this.later(), { signal });
    this.form = el("span");
    this.told = el("span.told", { role: "status" });
    this.notice = el("p.notice", { role: "alert", hidden: true });
    this.tabs = el("nav.tabs", { "aria-label": "Views" });
    /** Where actions on the dataset go. */
    this.actions = el("div.actions");
    this.stage = el("div.stage");
    this.aside = el("aside.aside", { "aria-label": "About the dataset" });
    this.stage.addEventListener("view-state", ({ detail }) => this.note(detail));
  }

  async show({ path, query }) {
    const { view: key, ...state } = query;
    this.state = state;
    if (!this.dataset) {
      this.path = path;
      this.title = path.split("/").at(-1);
      this.dataset = { path, info: await this.shell.api.info(path, { signal: this.ended.signal }) };
      this.build();
    }
    await this.choose(key);
    this.tellTools();
  }

  build() {
    const { api } = this.shell;
    this.host.replaceChildren(
      el("header.head", {}, crumbs(this.path, api), el("h1", {}, this.title), el("p.lead", {}, this.form, this.told)),
      this.notice,
      this.actions,
      el("div.dataset", {}, el("div.look", {}, this.tabs, el("h2.unseen", {}, "View"), this.stage), this.aside),
    );
    this.tools = this.shell.actions.forDataset(this.actions, this.dataset);
    this.describe();
  }

  describe() {
    const { info } = this.dataset;
    this.form.textContent = form(info);
    this.aside.replaceChildren(facts(info));
  }

  /** Show a view, in the present state. @param {string|undefined} key */
  async choose(key) {
    const kinds = viewsFor(this.dataset);
    const kind = kinds.find((one) => one.key === key) ?? kinds[0];
    this.tabs.replaceChildren(...kinds.map((one) => this.tab(one, kind)));
    this.tabs.hidden = kinds.length < 2;
    if (!this.view || this.kind !== kind.key) {
      this.view?.destroy();
      this.kind = kind.key;
      this.view = new kind.View(this.stage, this.dataset, this.shell.api);
    }
    await this.view.show({ ...this.state });
  }

  tab({ key, title }, present) {
    const current = key === present.key ? "page" : null;
    return el("a", { href: `${this.shell.api.viewUrl(this.path)}?view=${key}`, "aria-current": current }, title);
  }

  note(state) {
    this.state = state;
    this.tellTools();
    this.shell.router.note({ view: this.kind, ...state });
  }

  /** Tell what is on screen, for those who take it away. */
  tellTools() {
    this.tools?.update({ ...this.view?.selection });
  }

  // What happens to it

  changed({ root, path, type }) {
    if (`${root}/${path}` !== this.path) return;
    if (type === "deleted") {
      this.say(`This dataset was deleted at ${new Date().toLocaleTimeString()}. What is shown is what was loaded before.`);
    } else {
      this.later();
    }
  }

  later() {
    this.timer ??= setTimeout(() => void this.renew(), PAUSE);
  }

  /** Show the present version in place. */
  async renew() {
    try {
      await this.load();
      this.notice.hidden = true;
      this.told.textContent = `updated at ${new Date().toLocaleTimeString()}`;
    } catch (error) {
      if (this.ended.signal.aborted) return;
      this.say(error.status === 404 ? "This dataset is not there any more. What is shown is what was loaded before." : (error.detail ?? error.message));
    } finally {
      this.timer = undefined;
    }
  }

  async load() {
    const { api } = this.shell;
    this.dataset.info = await api.info(this.path, { signal: this.ended.signal });
    this.describe();
    await this.view?.update();
  }

  say(text) {
    this.notice.textContent = text;
    this.notice.hidden = false;
  }

  destroy() {
    clearTimeout(this.timer);
    this.ended.abort();
    this.view?.destroy();
    this.tools?.destroy();
  }
}

