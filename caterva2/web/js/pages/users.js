// The users, for superusers: who there is, more of them, fewer of them.

import { ask } from "../actions/dialog.js";
import { email, entry, form, tick } from "../forms.js";
import { el } from "../views/dom.js";

export class UsersPage {
  /** @param {HTMLElement} host @param {import("../shell.js").Shell} shell */
  constructor(host, shell) {
    this.host = host;
    this.api = shell.api;
    this.shell = shell;
    this.title = "Users";
    this.rows = el("tbody");
    this.told = el("div.fresh", { role: "status" });
  }

  async show() {
    await this.list();
    const address = email({ autocomplete: "off" });
    const password = entry("Password", { type: "text", autocomplete: "off", required: null, spellcheck: "false" }, "Left empty, one is made");
    const superuser = tick("Superuser: manages users, reads everything");
    const add = async () => {
      this.say(await this.api.addUser(address.input.value, password.input.value, superuser.input.checked));
      await this.list();
    };
    const head = el("thead", {}, el("tr", {}, ...["E-mail address", "Kind", "Actions"].map((name) => el("th", { scope: "col" }, name))));
    this.host.replaceChildren(
      el(
        "section.page",
        {},
        el("h1", {}, "Users"),
        el("div.wide", { tabindex: "0", role: "region", "aria-label": "Users" }, el("table.table", {}, head, this.rows)),
        this.told,
        el("h2", {}, "Add a user"),
        form([address.element, password.element, superuser.element], { action: "Add", submit: add }),
      ),
    );
  }

  say(text, ...more) {
    this.told.replaceChildren(el("p", {}, text), ...more);
  }

  async list() {
    const users = await this.api.users();
    users.sort((a, b) => (a.email < b.email ? -1 : 1));
    this.rows.replaceChildren(...users.map((user) => this.row(user)));
  }

  row({ email: address, is_superuser: superuser }) {
    const self = address === this.shell.session.user?.email;
    const link = async () => {
      try {
        const { link: url, hours } = await this.api.resetLink(address);
        this.say(`For ${address}: with this link another password can be set once, within ${hours} hours.`, el("code.token", {}, url));
      } catch (error) {
        this.say(error.detail ?? String(error));
      }
    };
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, address, self ? " (you)" : ""),
      el("td", {}, superuser ? "superuser" : "user"),
      el("td", {}, el("div.buttons", {}, el("button.quiet", { type: "button", "aria-label": `Link for another password of ${address}`, onclick: () => void link() }, "Password link"), self ? null : el("button.quiet.danger", { type: "button", "aria-label": `Remove ${address}`, onclick: () => void this.remove(address) }, "Remove"))),
    );
  }

  async remove(address) {
    const submit = async () => {
      this.say(await this.api.removeUser(address));
      await this.list();
    };
    await ask("Remove a user", [el("p", {}, `${address} will be removed, with all that is in @personal.`)], { action: "Remove", danger: true, submit });
  }

  destroy() {}
}
