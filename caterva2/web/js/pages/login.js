// Coming in: log in, register, and another password for who has forgotten it.

import { email, entry, form, newPassword } from "../forms.js";
import { el } from "../views/dom.js";

class FormPage {
  /** @param {HTMLElement} host @param {import("../shell.js").Shell} shell */
  constructor(host, shell) {
    this.host = host;
    this.shell = shell;
    this.title = "";
  }

  /** @param {string} title @param {...(Node|null)} content */
  fill(title, ...content) {
    this.title = title;
    this.host.replaceChildren(el("section.card", {}, el("h1", {}, title), ...content.filter(Boolean)));
  }

  link(page, text) {
    return el("a", { href: this.shell.api.pageUrl(page) + location.search }, text);
  }

  refuse(text) {
    this.fill(this.title, el("p", {}, text));
  }

  destroy() {}

  /** Log in, and go where one came from. */
  async enter(address, password, next = "") {
    const { api, router } = this.shell;
    await api.login(address, password);
    await this.shell.renewSession();
    const url = new URL(next, api.root).href;
    router.go(url.startsWith(api.root) ? url : api.pageUrl(), { replace: true });
  }
}

export class LoginPage extends FormPage {
  async show({ query }) {
    const { session } = this.shell;
    this.title = "Log in";
    if (!session.users) return this.refuse("This subscriber has no users: all can read what it has, and nobody writes.");
    const address = email({ autofocus: true });
    const password = entry("Password", { type: "password", autocomplete: "current-password" });
    const submit = () => this.enter(address.input.value, password.input.value, query.next);
    this.fill(
      "Log in",
      form([address.element, password.element], { action: "Log in", submit }),
      el("p.beside", {}, session.mail ? this.link("forgot-password", "Forgot the password?") : "Forgot the password? A superuser can make you a link for another one."),
      session.registration ? el("p.beside", {}, "No account yet? ", this.link("register", "Register")) : null,
    );
    address.input.focus();
  }
}

export class RegisterPage extends FormPage {
  async show({ query }) {
    const { api, session } = this.shell;
    this.title = "Register";
    if (!session.registration) return this.refuse("Nobody can register here: ask those who run this subscriber for an account.");
    const address = email();
    const password = newPassword();
    const submit = async () => {
      await api.register(address.input.value, password.input.value);
      await this.enter(address.input.value, password.input.value, query.next);
    };
    this.fill("Register", form([address.element, password.element], { action: "Register", submit }), el("p.beside", {}, "You have an account? ", this.link("login", "Log in")));
    address.input.focus();
  }
}

export class ForgotPage extends FormPage {
  async show() {
    const { api, session } = this.shell;
    this.title = "Another password";
    if (!session.mail) return this.refuse("This subscriber sends no mail: ask one of its superusers for a link.");
    const address = email();
    const done = "If there is such a user, a link is on its way.";
    this.fill("Another password", form([address.element], { action: "Send a link", submit: () => api.forgotPassword(address.input.value), done }));
  }
}

export class ResetPage extends FormPage {
  async show({ hash }) {
    const { api, router } = this.shell;
    this.title = "Set a password";
    if (!hash) return this.refuse("The address of this page is not whole: open the link as it was sent.");
    const password = newPassword("New password");
    const submit = async () => {
      await api.resetPassword(hash, password.input.value);
      router.go(api.pageUrl("login"), { replace: true });
    };
    this.fill("Set a password", form([password.element], { action: "Set", submit }));
  }
}
