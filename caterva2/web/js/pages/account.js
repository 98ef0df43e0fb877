// One's own account: another password, and access tokens for scripts.

import { ApiError } from "../api.js";
import { entry, form, newPassword } from "../forms.js";
import { el } from "../views/dom.js";
import { when } from "../times.js";

export class AccountPage {
  /** @param {HTMLElement} host @param {import("../shell.js").Shell} shell */
  constructor(host, shell) {
    this.host = host;
    this.api = shell.api;
    this.shell = shell;
    this.title = "Account";
    this.rows = el("tbody");
    this.table = el("table.table", {}, el("thead", {}, el("tr", {}, ...["Name", "Made", "Expires", "Used", "Action"].map((name) => el("th", { scope: "col" }, name)))), this.rows);
    this.fresh = el("div.fresh", { role: "status" });
  }

  async show() {
    const { user } = this.shell.session;
    if (!user) throw new ApiError(401, "Log in to see your account.");
    const [old, fresh] = [entry("Present password", { type: "password", autocomplete: "current-password" }), newPassword("New password")];
    const change = () => this.api.changePassword(old.input.value, fresh.input.value);
    const [name, days] = [entry("What it is for", { maxlength: "100", placeholder: "notebook" }), entry("Days that it holds", { type: "number", min: "1", max: "366", value: "90" })];
    const add = async () => {
      this.tell(await this.api.addToken(name.input.value, Number(days.input.value)));
      await this.list();
    };
    this.host.replaceChildren(
      el("section.page", {}, el("h1", {}, "Account"), el("p.lead", {}, user.email, user.superuser ? " (superuser)" : "")),
      el("section.page", { "aria-labelledby": "password" }, el("h2", { id: "password" }, "Password"), form([old.element, fresh.element], { action: "Change the password", submit: change, done: "The password is changed; all other sessions have ended." })),
      el("section.page", { "aria-labelledby": "tokens" }, el("h2", { id: "tokens" }, "Access tokens"), el("p", {}, "For scripts and notebooks, which should not know your password."), el("div.wide", { tabindex: "0", role: "region", "aria-label": "List of access tokens" }, this.table), form([el("div.beside-each-other", {}, name.element, days.element)], { action: "Make a token", submit: add }), this.fresh),
    );
    await this.list();
  }

  tell({ token, name }) {
    this.fresh.replaceChildren(el("p", {}, `The token ${name}, shown this once:`), el("code.token", {}, token));
  }

  async list() {
    const tokens = await this.api.tokens();
    this.table.parentElement.hidden = !tokens.length;
    this.rows.replaceChildren(...tokens.map((token) => this.row(token)));
  }

  row({ id, name, created, expires, used }) {
    const remove = async () => {
      await this.api.removeToken(id);
      this.fresh.replaceChildren(el("p", {}, `The token ${name} is revoked.`));
      await this.list();
    };
    return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, when(created)), el("td", {}, when(expires)), el("td", {}, used ? when(used) : "never"), el("td", {}, el("button.quiet", { type: "button", "aria-label": `Revoke ${name}`, onclick: () => void remove() }, "Revoke")));
  }

  destroy() {}
}
