// What a look costs the subscriber: an overview is few bytes on the way, but may be a whole array to decompress.

import { parseDtype } from "../dtypes.js";
import { formatBytes } from "../values.js";
import { el } from "./dom.js";

// Decompressed in about a second or two; what is more is only read when it is wanted.
const MOST = 4 * 1024 ** 3;

/**
 * @param {any} info of GET /api/info
 * @param {import("../look.js").Look} look
 * @param {Map<number, number>} steps by axis
 * @returns {number} bytes that are decompressed for it; 0 if that is not known
 */
export function costOf(info, look, steps) {
  const { chunks, blocks } = info;
  if (!Array.isArray(chunks) || !Array.isArray(blocks)) return 0;
  const lengths = look.regions.map((_, axis) => {
    const block = Math.max(1, blocks[axis]);
    const step = steps.get(axis) ?? 1;
    const count = Math.ceil(look.extent(axis) / step);
    // Within a chunk all blocks from the first value to the last one are read.
    return step >= chunks[axis]
      ? count * block
      : Math.min((Math.ceil(look.extent(axis) / block) + 1) * block, look.shape[axis]);
  });
  return lengths.reduce((product, length) => product * length, parseDtype(info.dtype).size);
}

/** Asks before a look that is dear. */
export class Gate {
  /** @param {() => void} onallow */
  constructor(onallow) {
    this.allowed = false;
    this.text = el("span");
    const allow = () => {
      this.allowed = true;
      onallow();
    };
    const button = el("button.v-button", { type: "button", onclick: allow }, "Read it all the same");
    this.element = el("p.v-gate", { role: "status", hidden: true }, this.text, button);
  }

  /** @param {number} cost in bytes @returns {boolean} whether it may be read */
  passes(cost) {
    const open = this.allowed || cost <= MOST;
    this.element.hidden = open;
    if (!open)
      this.text.textContent = `To show this, about ${formatBytes(cost)} must be decompressed at the subscriber. Zoom in, or `;
    return open;
  }
}
