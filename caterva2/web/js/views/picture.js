// Picture files, drawn by the browser from a blob: nothing in them, not even in an SVG, can run there.

import { el } from "./dom.js";
import { extensionOf, FileView, isFile } from "./fileview.js";

const TYPES = {
  ".png": "image/png",
  ".jpg": "image/jpeg",
  ".jpeg": "image/jpeg",
  ".webp": "image/webp",
  ".gif": "image/gif",
  ".svg": "image/svg+xml",
  ".avif": "image/avif",
  ".bmp": "image/bmp",
  ".ico": "image/x-icon",
};

/** @param {any} info @param {string} path */
export function canView(info, path) {
  return isFile(info) && extensionOf(path) in TYPES;
}

export class PictureView extends FileView {
  static title = "Picture";
  static most = 64 * 1024 * 1024;

  /** @override */
  render(buffer) {
    const type = TYPES[extensionOf(this.dataset.path)];
    const name = this.dataset.path.split("/").at(-1);
    const note = el("p.v-muted", {}, "\u00a0");
    const image = el("img.v-image", { alt: name, src: this.blobUrl(buffer, type) });
    image.addEventListener(
      "load",
      () => (note.textContent = `${image.naturalWidth} \u00d7 ${image.naturalHeight} pixels`),
    );
    image.addEventListener("error", () => this.loader.say(`${name} is no picture that this browser can show`));
    return [image, note];
  }
}
