// Bytes of any file, and of a Blosc2 frame: hexadecimal, with what is readable beside.

import { storedBytes } from "../frame.js";
import { el } from "./dom.js";
import { FileView, isFile } from "./fileview.js";

const WIDTH = 16;

/** @param {any} info */
export function canView(info) {
  return isFile(info);
}

export class BytesView extends FileView {
  static title = "Bytes";
  static most = 4096;

  /** @override */
  async refresh() {
    // A frame's file is compressed; what it holds is what the subscriber reads from it.
    if (!this.dataset.path.endsWith(".b2frame")) return super.refresh();
    const size = Math.floor(this.dataset.info.nbytes / this.typesize);
    const stop = Math.min(size, Math.max(1, Math.floor(this.most / this.typesize)));
    return this.loader.run(
      (signal) => this.stored(stop, stop < size, signal),
      (bytes) => {
        this.controls.replaceChildren(...this.more(bytes.byteLength, this.dataset.info.nbytes));
        this.body.replaceChildren(...this.render(bytes));
      },
    );
  }

  async stored(stop, part, signal) {
    // The whole frame would come as it is stored, compressed; its parts do not.
    const ends = part ? [0, stop] : [0, Math.ceil(stop / 2), stop];
    const pieces = ends
      .slice(1)
      .map((end, i) =>
        end > ends[i] ? this.api.frame(this.dataset.path, { slice_: `${ends[i]}:${end}` }, { signal }) : null,
      );
    return new Blob((await Promise.all(pieces)).filter(Boolean).map(storedBytes)).arrayBuffer();
  }

  get typesize() {
    return this.dataset.info.cparams?.typesize || 1;
  }

  /** @override */
  render(buffer) {
    const bytes = new Uint8Array(buffer);
    if (!bytes.length) return [el("p.v-note", {}, "This file is empty.")];
    const lines = [];
    for (let at = 0; at < bytes.length; at += WIDTH) lines.push(line(bytes.subarray(at, at + WIDTH), at));
    return [el("pre.v-text", { tabindex: 0, role: "region", "aria-label": "Bytes" }, lines.join("\n"))];
  }
}

function line(bytes, at) {
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"));
  const text = Array.from(bytes, (byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "\u00b7")).join("");
  const halves = [hex.slice(0, 8).join(" ").padEnd(23), hex.slice(8).join(" ").padEnd(23)].join("  ");
  return `${at.toString(16).padStart(8, "0")}  ${halves}  ${text}`;
}
