// What this page knows of the subscriber's roots; it follows the events, and tells when something is new.

import { ApiError } from "../api.js";
import { Turn } from "../stream.js";
import { Root } from "./model.js";

/** Dispatches "roots" when roots or their presence have changed, and "tree" when what is in them has. */
export class Catalog extends EventTarget {
  /** @param {import("../api.js").Api} api @param {import("../live.js").Live} live */
  constructor(api, live) {
    super();
    this.api = api;
    /** @type {Map<string, Root>} */
    this.roots = new Map();
    /** @type {Map<string, Promise<void>>} */
    this.loading = new Map();
    live.addEventListener("change", ({ detail }) => this.changed(detail));
    live.addEventListener("root", ({ detail }) => this.presence(detail));
    live.addEventListener("reset", () => void this.reload());
  }

  /** Ask which roots there are. */
  async refresh() {
    const found = await this.api.roots();
    for (const name of [...this.roots.keys()].filter((each) => !(each in found))) this.roots.delete(name);
    for (const about of Object.values(found)) this.about(about);
    this.roots = new Map([...this.roots].sort(([a], [b]) => (rank(a) < rank(b) ? -1 : 1)));
    this.tell("roots");
  }

  about(about) {
    const root = this.roots.get(about.name) ?? new Root(about.name);
    root.about = about;
    this.roots.set(about.name, root);
  }

  /** Forget all, as after a login: others see other roots. */
  async restart() {
    this.roots.clear();
    this.loading.clear();
    await this.refresh();
  }

  /** @param {string} name @returns {Root} */
  root(name) {
    const root = this.roots.get(name);
    if (!root) throw new ApiError(404, `There is no root ${name} here, or it is for users who are logged in.`);
    return root;
  }

  /** List a root, once. @param {string} name @returns {Promise<void>} */
  load(name) {
    const root = this.root(name);
    if (root.state === "loaded") return Promise.resolve();
    if (!this.loading.has(name)) this.loading.set(name, this.list(root).finally(() => this.loading.delete(name)));
    return this.loading.get(name);
  }

  async list(root) {
    root.state = "loading";
    this.tell("tree");
    try {
      const fresh = new Root(root.name);
      await this.api.list(root.name, (entries) => {
        for (const entry of entries) fresh.put(entry);
      });
      keepOpen(root, fresh);
      Object.assign(root, { folders: fresh.folders, datasets: fresh.datasets, all: fresh.all, sorted: null, state: "loaded", error: "" });
      for (const child of [...root.folders.values(), ...root.datasets.values()]) child.parent = root;
    } catch (error) {
      Object.assign(root, { state: "failed", error: error.detail ?? String(error) });
      throw error;
    } finally {
      this.tell("tree");
    }
  }

  /** After a break: what is shown is listed anew. */
  async reload() {
    const known = [...this.roots.values()].filter(({ state }) => state === "loaded").map(({ name }) => name);
    try {
      await this.refresh();
      for (const name of known.filter((each) => this.roots.has(each))) await this.list(this.root(name));
    } catch {
      // The next event, or the next look, finds out.
    }
  }

  changed({ root: name, path, type, kind, nbytes, mtime }) {
    const root = this.roots.get(name);
    if (!root || root.state !== "loaded") return;
    if (type === "deleted") root.take(path);
    else root.put({ path, kind, nbytes, mtime });
    this.tell("tree");
  }

  presence({ name, status }) {
    const root = this.roots.get(name);
    if (root) root.about = { ...root.about, status };
    this.tell("roots");
    void this.refresh().catch(() => {});
  }

  /**
   * Look for datasets whose path has all words of a text.
   * @param {string} text
   * @param {(found: import("./model.js").Dataset[]) => void} tell called with all of them
   * @param {AbortSignal} signal
   */
  async search(text, tell, signal) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    const turn = new Turn();
    for (const { all } of this.roots.values()) {
      for (let start = 0; start < all.length; start += 2000) {
        for (const dataset of all.slice(start, start + 2000)) {
          if (!dataset.gone && words.every((word) => dataset.text.includes(word))) found.push(dataset);
        }
        await turn.over();
        if (signal.aborted) return;
      }
    }
    tell(found);
  }

  tell(kind) {
    this.dispatchEvent(new Event(kind));
  }
}

// Published ones first.
function rank(name) {
  return `${name.startsWith("@") ? 1 : 0}${name}`;
}

function keepOpen(before, after) {
  after.open = before.open;
  for (const [name, folder] of before.folders) {
    const same = after.folders.get(name);
    if (same && folder.open) keepOpen(folder, same);
  }
}
