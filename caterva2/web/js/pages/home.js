// The first page: the roots, and whether their publishers are there.

import { presence } from "../tree/presence.js";
import { el } from "../views/dom.js";

export class HomePage {
  /** @param {HTMLElement} host @param {import("../shell.js").Shell} shell */
  constructor(host, shell) {
    this.host = host;
    this.shell = shell;
    this.title = "";
    this.ended = new AbortController();
    shell.catalog.addEventListener("roots", () => this.fill(), { signal: this.ended.signal });
    this.list = el("div.cards");
  }

  async show() {
    const { session, api } = this.shell;
    const hint = session.users && !session.user ? el("p.lead", {}, "Some of it may be for users only: ", el("a", { href: api.pageUrl("login") }, "log in"), session.registration ? " or " : "", session.registration ? el("a", { href: api.pageUrl("register") }, "register") : "", ".") : null;
    this.host.replaceChildren(el("section.page", {}, el("h1", {}, "Roots"), hint, this.list));
    this.fill();
  }

  fill() {
    const roots = [...this.shell.catalog.roots.values()];
    const published = roots.filter(({ name }) => !name.startsWith("@"));
    const own = roots.filter(({ name }) => name.startsWith("@"));
    this.list.replaceChildren(
      el("h2", {}, "Published"),
      published.length ? el("ul.roots", {}, ...published.map((root) => this.card(root))) : el("p.empty", {}, "No publisher has announced a root to the broker yet. It shows here as soon as one does."),
      ...(own.length ? [el("h2", {}, "Kept here"), el("ul.roots", {}, ...own.map((root) => this.card(root)))] : []),
    );
  }

  card({ name, about }) {
    const { state, word, sentence } = presence(about);
    const badge = word ? el("span.presence", { "data-presence": state }, word) : null;
    return el("li", {}, el("a.card-link", { href: this.shell.api.viewUrl(name) }, el("span.name", {}, name), badge), el("p", {}, sentence), about.http ? el("p.address", {}, about.http) : null);
  }

  destroy() {
    this.ended.abort();
  }
}
