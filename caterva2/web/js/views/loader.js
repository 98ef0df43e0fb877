// One thing at a time is loaded for a view: who asks anew no longer wants what was asked before.

import { el } from "./dom.js";

/** Loads for a view, shows that it does, and says why it could not. */
export class Loader {
  /** @param {HTMLElement} host gets aria-busy, and the message in front */
  constructor(host) {
    this.host = host;
    this.message = el("p.v-error", { role: "alert", hidden: true });
    host.prepend(this.message);
    /** @type {AbortController|null} */
    this.running = null;
  }

  /**
   * Load something, in place of what is being loaded.
   * @template T
   * @param {(signal: AbortSignal) => Promise<T>} load
   * @param {(result: T) => void} show
   */
  async run(load, show) {
    this.running?.abort();
    const mine = new AbortController();
    this.running = mine;
    this.host.setAttribute("aria-busy", "true");
    try {
      const result = await load(mine.signal);
      if (mine.signal.aborted) return;
      this.say("");
      show(result);
    } catch (error) {
      if (!mine.signal.aborted) this.say(textOf(error));
    } finally {
      if (this.running === mine) this.host.removeAttribute("aria-busy");
    }
  }

  /** @param {string} text of an error; "" for none */
  say(text) {
    this.message.textContent = text;
    this.message.hidden = !text;
  }

  /** Ends what runs. */
  stop() {
    this.running?.abort();
  }
}

/** @param {any} error @returns {string} the server's words, if it said some */
export function textOf(error) {
  return error.detail ?? error.message ?? String(error);
}
