// Addresses: which page an address is, and going to another one without loading anything again.

/**
 * @typedef {{page: string, path: string, query: Record<string, string>, hash: string}} Place `page` is "" for the first one,
 *   "view" for what is below /view/ (its `path` is a root, folder or dataset), or "login" and the like
 */

export class Router {
  /**
   * @param {string} root the address of the first page
   * @param {(place: Place, how: "load"|"link"|"back") => void} show
   */
  constructor(root, show) {
    this.root = new URL(root);
    this.show = show;
    addEventListener("popstate", () => this.show(this.here, "back"));
    document.addEventListener("click", (event) => this.click(event));
  }

  /** @returns {Place} */
  get here() {
    const below = location.pathname.slice(this.root.pathname.length);
    const [page, ...names] = below.split("/");
    return {
      page,
      path: names.map(decoded).join("/").replace(/\/+$/, ""),
      query: Object.fromEntries(new URLSearchParams(location.search)),
      hash: location.hash.slice(1),
    };
  }

  /** @param {string} url @param {{replace?: boolean}} [options] */
  go(url, { replace = false } = {}) {
    if (url === location.href) replace = true;
    history[replace ? "replaceState" : "pushState"](null, "", url);
    this.show(this.here, "link");
  }

  /** Write what is looked at into the address, without going anywhere. @param {Record<string, string|undefined>} query */
  note(query) {
    const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined && value !== "")).toString();
    history.replaceState(null, "", location.pathname + (text && `?${text}`));
  }

  click(event) {
    if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest?.("a[href]");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== this.root.origin) return;
    if (!link.pathname.startsWith(this.root.pathname)) return;
    const page = link.pathname.slice(this.root.pathname.length).split("/", 1)[0];
    // A link within the page, and what the server answers itself.
    if ((link.hash && link.pathname === location.pathname) || !PAGES.has(page)) return;
    event.preventDefault();
    this.go(link.href);
  }
}

const PAGES = new Set(["", "view", "login", "register", "forgot-password", "reset-password", "account", "users", "status"]);

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
