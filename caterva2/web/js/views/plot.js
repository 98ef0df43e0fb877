// What is drawn of an array and can be zoomed: a place for it, a line that tells the value under the cursor, and keys.

import { el, onResize } from "./dom.js";
import { listenForKeys } from "./gestures.js";

export const LEAST_DRAG = 6; // pixels
export const HINT = "Drag to zoom in, double-click for all. Arrow keys move the cursor, + and \u2212 zoom, 0 shows all.";

/**
 * @typedef {object} Options
 * @property {string} label what is seen, for screen readers
 * @property {(look: import("../look.js").Look) => void} onlook zoomed or moved
 * @property {() => void} onsize there are other pixels to fill
 *
 * @typedef {object} Kind
 * @property {string} name its tag and classes
 * @property {string} role what it is, for screen readers
 * @property {Element[]} inside what is drawn on
 * @property {(plot: HTMLElement) => HTMLElement} [around] what it stands in
 */

/** A drawing: `place`, `listen`, `zoom` and `key` are those of its kind. */
export class Plot {
  /** @param {Options} options @param {Kind} kind */
  constructor({ label, onlook, onsize }, { name, role, inside, around = (plot) => plot }) {
    this.onlook = onlook;
    /** @type {import("../look.js").Look|null} */
    this.look = null;
    this.plot = el(name, { tabindex: 0, role: "application", "aria-roledescription": role, "aria-label": label }, ...inside);
    this.readout = el("output.v-readout", { "aria-live": "off" }, HINT);
    this.element = el("div.v-raster", {}, around(this.plot), this.readout);
    listenForKeys(this.plot, (key, shift) => this.key(key, shift));
    this.plot.addEventListener("dblclick", () => this.go(this.look.whole()));
    this.stopResizing = onResize(this.element, () => {
      if (!this.look || this.element.clientWidth === this.width) return;
      this.place(this.look);
      onsize();
    });
  }

  destroy() {
    this.stopResizing();
  }

  /** Show another part. @param {import("../look.js").Look} look */
  go(look) {
    if (look.text() === this.look.text()) return;
    this.place(look);
    this.onlook(look);
  }

  /** A look, moved along an axis by a share of what is shown, one item at least. */
  moved(look, axis, share) {
    const { start, stop } = this.look.regions[axis];
    const by = Math.sign(share) * Math.max(1, Math.round(Math.abs(share) * (stop - start)));
    return look.withRegion(axis, { start: start + (share && by), stop: stop + (share && by) });
  }

  /** The keys of every drawing. @param {string} key @returns {boolean} whether it is one of them */
  zoomKey(key) {
    if (key === "+" || key === "=") this.zoom(0.5);
    else if (key === "-") this.zoom(2);
    else if (key === "0" || key === "Home") this.go(this.look.whole());
    else return false;
    return true;
  }
}
