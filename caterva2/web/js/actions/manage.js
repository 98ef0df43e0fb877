// Move, rename, copy and remove, each with a way back: a move is moved back, a copy removed; what is removed goes only
// when the notice with its "Undo" has gone.

import { ask, field } from "./dialog.js";

const OWN = ["@public", "@shared", "@personal"];

/** @param {string} path @returns {boolean} whether it lies where users write */
export function isWritable(path) {
  return OWN.includes(path.split("/", 1)[0]);
}

/** What is done with datasets and folders. */
export class Manager {
  /**
   * @param {{move: (src: string, dst: string) => Promise<string>, copy: (src: string, dst: string) => Promise<string>,
   *   remove: (path: string, options?: object) => Promise<string>}} api
   * @param {import("./notices.js").Notices} notices
   * @param {{changed?: (path: string, before?: string) => void}} [options] called with what is new, and what it was
   */
  constructor(api, notices, { changed } = {}) {
    this.api = api;
    this.notices = notices;
    this.changed = changed ?? (() => {});
    /** @type {Map<string, () => void>} what removes at once what is about to go */
    this.going = new Map();
    this.leaving = () => { for (const go of [...this.going.values()]) go(); };
    addEventListener("pagehide", this.leaving);
  }

  /** Rename in place. @param {string} path */
  rename(path) {
    const at = path.lastIndexOf("/") + 1;
    const name = field("New name", { value: path.slice(at), required: true });
    const chosen = ask("Rename", [path, name.element], {
      action: "Rename",
      submit: () => this.moved(path, path.slice(0, at) + checkedName(name.input.value)),
    });
    // The ending says what it is, so it seldom changes.
    const dot = name.input.value.lastIndexOf(".");
    name.input.setSelectionRange(0, dot > 0 ? dot : name.input.value.length);
    return chosen;
  }

  /** @param {string} path */
  move(path) {
    const target = targetField(path, "@personal or @shared or @public; a slash at the end means into that folder");
    return ask("Move", [path, target.element], { action: "Move", submit: () => this.moved(path, target.input.value.trim()) });
  }

  /** @param {string} path */
  copy(path) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const target = targetField(isWritable(path) ? path : `@personal/${name}`, "A slash at the end means into that folder");
    return ask("Copy", [path, target.element], {
      action: "Copy",
      submit: async () => {
        const made = await this.api.copy(path, target.input.value.trim());
        this.changed(made);
        this.notices.say(`Copied to ${made}`, { undo: () => this.tried(async () => { await this.api.remove(made); this.changed("", made); }) });
        return made;
      },
    });
  }

  /**
   * Remove; of a folder it is asked first.
   * @param {string} path
   * @param {{folder?: boolean}} [options]
   */
  async remove(path, { folder = false } = {}) {
    if (folder && !(await ask("Remove a folder", [`${path} and all that is in it will be removed.`], { action: "Remove", danger: true, submit: () => true }))) return;
    if (this.going.has(path)) return;
    this.changed("", path);
    const dismiss = this.notices.say(`Removed ${path}`, {
      undo: () => { this.going.delete(path); this.changed(path); },
      over: () => this.gone(path),
    });
    this.going.set(path, dismiss);
  }

  async gone(path) {
    this.going.delete(path);
    try {
      await this.api.remove(path, { keepalive: true });
    } catch (error) {
      this.notices.fail(error);
      this.changed(path);
    }
  }

  async moved(from, to) {
    const path = await this.api.move(from, to);
    this.changed(path, from);
    this.notices.say(`Moved to ${path}`, {
      undo: () => this.tried(async () => this.changed(await this.api.move(path, from), path)),
    });
    return path;
  }

  async tried(work) {
    try {
      await work();
    } catch (error) {
      this.notices.fail(error);
    }
  }

  destroy() {
    this.leaving();
    removeEventListener("pagehide", this.leaving);
  }
}

function targetField(value, hint) {
  return field("To", { value, required: true }, hint);
}

function checkedName(name) {
  if (!name.trim() || name.includes("/")) throw new Error("a name is needed, without a slash");
  return name.trim();
}
