// The top of every page: where one is, whether it is live, who one is, which colours.

import { themeChoice } from "./theme.js";
import { el } from "./views/dom.js";

const STATES = {
  connecting: ["Connecting", "Changes will show as they happen"],
  live: ["Live", "Changes show as they happen"],
  lost: ["Connection lost", "What is shown may be old; it is tried again by itself"],
};

export class Top {
  /** @param {HTMLElement} host @param {import("./shell.js").Shell} shell */
  constructor(host, shell) {
    this.shell = shell;
    const { api } = shell;
    this.button = el("button.menu", { type: "button", "aria-expanded": "false", "aria-controls": "side", onclick: () => this.toggle() }, el("span.bars", { "aria-hidden": "true" }), "Datasets");
    this.state = el("span.live", { role: "status" });
    this.links = el("nav.who", { "aria-label": "Account" });
    host.append(
      this.button,
      el("a.brand", { href: api.pageUrl() }, el("img", { src: new URL("../icon.svg", import.meta.url).href, alt: "", width: "22", height: "22" }), "Caterva2"),
      this.state,
      el("span.space"),
      themeChoice(),
      this.links,
    );
    shell.live.addEventListener("state", ({ detail }) => this.tell(detail));
    this.tell(shell.live.state);
    // What is below it needs its height, which is another one when it takes two lines.
    const height = () => document.documentElement.style.setProperty("--top", `${host.offsetHeight}px`);
    new ResizeObserver(height).observe(host);
  }

  toggle() {
    const open = this.button.getAttribute("aria-expanded") !== "true";
    this.shell.openSide(open);
    if (open) this.shell.sidebar.input.focus();
  }

  sideIs(open) {
    this.button.setAttribute("aria-expanded", String(open));
    if (!open && this.shell.side.contains(document.activeElement)) this.button.focus();
  }

  tell(state) {
    const [word, sentence] = STATES[state];
    this.state.dataset.state = state;
    this.state.title = sentence;
    this.state.replaceChildren(el("span.word", {}, word));
  }

  /** Say who one is. */
  fill() {
    const { session, api } = this.shell;
    const links = [];
    const link = (page, text) => el("a", { href: api.pageUrl(page) }, text);
    const { user } = session;
    if (user?.superuser) links.push(link("users", "Users"));
    if (user?.superuser) links.push(link("status", "Status"));
    if (user) links.push(el("a.mail", { href: api.pageUrl("account"), title: `Account of ${user.email}` }, user.email), el("button.quiet", { type: "button", onclick: () => void this.leave() }, "Log out"));
    else if (session.users) links.push(link("login", "Log in"), session.registration ? link("register", "Register") : null);
    this.links.replaceChildren(...links.filter(Boolean));
    this.links.hidden = !links.length;
  }

  async leave() {
    try {
      await this.shell.api.logout();
    } catch (error) {
      // It had ended already.
      if (error.status !== 401) return this.shell.fail(error);
    }
    await this.shell.renewSession();
    this.shell.router.go(this.shell.api.pageUrl());
  }

  /** @param {import("./router.js").Place} place */
  mark({ page }) {
    for (const link of this.links.querySelectorAll("a")) {
      if (link.href === this.shell.api.pageUrl(page)) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }
}
