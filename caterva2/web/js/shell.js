// The frame of all pages: the top, the side, the page that the address names, and what all of them use.

import { Actions } from "./actions/actions.js";
import { Live } from "./live.js";
import { AccountPage } from "./pages/account.js";
import { DatasetPage } from "./pages/dataset.js";
import { failure } from "./pages/failure.js";
import { FolderPage } from "./pages/folder.js";
import { HomePage } from "./pages/home.js";
import { ForgotPage, LoginPage, RegisterPage, ResetPage } from "./pages/login.js";
import { UsersPage } from "./pages/users.js";
import { Router } from "./router.js";
import { Top } from "./top.js";
import { Catalog } from "./tree/catalog.js";
import { Folder } from "./tree/model.js";
import { Sidebar } from "./tree/sidebar.js";

const PAGES = {
  "": HomePage,
  login: LoginPage,
  register: RegisterPage,
  "forgot-password": ForgotPage,
  "reset-password": ResetPage,
  account: AccountPage,
  users: UsersPage,
};
const NARROW = "(max-width: 52rem)";

/**
 * A page: `show` fills its host and says its title; called again when only the query has changed.
 * @typedef {{title: string, show: (place: import("./router.js").Place) => Promise<void>, destroy: () => void}} Page
 */

export class Shell {
  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.api = api;
    /** @type {import("./api.js").Session} */
    this.session = { user: null, users: false, registration: false, mail: false };
    this.live = new Live(api);
    this.catalog = new Catalog(api, this.live);
    this.main = /** @type {HTMLElement} */ (document.getElementById("main"));
    this.side = /** @type {HTMLElement} */ (document.getElementById("side"));
    this.router = new Router(api.root, (place, how) => void this.show(place, how));
    this.actions = new Actions(this);
    this.top = new Top(/** @type {HTMLElement} */ (document.getElementById("top")), this);
    this.sidebar = new Sidebar(this.side, this.catalog, {
      href: (path) => api.viewUrl(path),
      go: (path) => this.open(path),
    });
    /** @type {Page|null} */
    this.page = null;
    this.key = "";
    document.querySelector(".skip")?.addEventListener("click", (event) => {
      event.preventDefault();
      this.main.focus();
    });
    document.addEventListener("open-side", () => this.openSide(true));
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.openSide(false));
  }

  /** @param {string} path of a dataset or folder, to be shown */
  open(path) {
    this.router.go(this.api.viewUrl(path));
  }

  async begin() {
    try {
      [this.session] = await Promise.all([this.api.session(), this.catalog.refresh()]);
    } catch (error) {
      this.main.replaceChildren(failure(error, this));
      return;
    }
    this.top.fill();
    this.live.start();
    await this.show(this.router.here, "load");
  }

  /** Somebody else looks from now on. */
  async renewSession() {
    this.session = await this.api.session();
    this.top.fill();
    this.live.start();
    await this.catalog.restart();
  }

  /** @param {import("./router.js").Place} place @param {"load"|"link"|"back"} how */
  async show(place, how) {
    const key = `${place.page}/${place.path}`;
    const again = this.page !== null && key === this.key;
    this.key = key;
    if (!again) await this.change(place);
    const page = this.page;
    try {
      await page?.show(place);
    } catch (error) {
      if (this.page === page && key === this.key) this.fail(error);
    }
    if (this.key !== key) return;
    document.title = this.page?.title ? `${this.page.title} \u2013 Caterva2` : "Caterva2";
    document.body.dataset.shown = key;
    this.top.mark(place);
    if (!again) this.arrive(place, how);
  }

  async change(place) {
    this.page?.destroy();
    this.page = null;
    delete document.body.dataset.shown;
    const Page = place.page === "view" ? await this.kind(place.path) : await pageOf(place.page);
    if (this.key !== `${place.page}/${place.path}`) return;
    this.main.replaceChildren();
    this.page = new Page(this.main, this);
  }

  /** Which page shows a path: that of folders, or that of datasets. */
  async kind(path) {
    const [name, ...names] = path.split("/");
    // What has the ending of an array is one: it need not wait for a long list.
    if (/\.b2(nd|frame)$/.test(names.at(-1) ?? "")) return DatasetPage;
    try {
      await this.catalog.load(name);
    } catch {
      return FolderPage;
    }
    return this.catalog.root(name).find(names.join("/")) instanceof Folder ? FolderPage : DatasetPage;
  }

  fail(error) {
    this.page?.destroy();
    this.page = null;
    this.main.replaceChildren(failure(error, this));
    this.page = { title: "Not shown", show: async () => {}, destroy: () => {} };
  }

  arrive(place, how) {
    this.openSide(false);
    if (place.page === "view") {
      this.sidebar.tree.reveal(place.path);
      const name = place.path.split("/", 1)[0];
      if (this.catalog.roots.has(name)) {
        this.catalog.load(name).then(() => this.sidebar.tree.reveal(this.router.here.path), () => {});
      }
    } else {
      this.sidebar.tree.reveal("");
    }
    if (how === "load") return;
    window.scrollTo(0, 0);
    // Who goes through the tree stays there; others begin at what they asked for.
    if (!this.side.contains(document.activeElement) || matchMedia(NARROW).matches) {
      const title = this.main.querySelector("h1");
      title?.setAttribute("tabindex", "-1");
      title?.focus({ preventScroll: true });
    }
  }

  /** The side of a narrow page is over it, when it is wanted. @param {boolean} open */
  openSide(open) {
    if (open === this.side.classList.contains("open")) return;
    this.side.classList.toggle("open", open);
    this.top.sideIs(open);
  }
}

async function pageOf(name) {
  if (name === "status") return (await import("./pages/status.js")).StatusPage;
  return PAGES[name] ?? HomePage;
}
