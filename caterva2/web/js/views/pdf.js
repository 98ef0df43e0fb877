// PDF files, in the browser's own viewer; where it has none, they are taken away and opened elsewhere.

import { el } from "./dom.js";
import { extensionOf, FileView, isFile } from "./fileview.js";

/** @param {any} info @param {string} path */
export function canView(info, path) {
  return isFile(info) && extensionOf(path) === ".pdf";
}

export class PdfView extends FileView {
  static title = "PDF";
  static most = 64 * 1024 * 1024;

  /** @override */
  render(buffer) {
    const name = this.dataset.path.split("/").at(-1);
    const start = new TextDecoder("latin1").decode(new Uint8Array(buffer, 0, Math.min(1024, buffer.byteLength)));
    if (!start.includes("%PDF-")) {
      this.loader.say(`${name} is no PDF file: its contents do not begin as one`);
      return [];
    }
    const url = this.blobUrl(buffer, "application/pdf");
    const link = el("a.v-button", { href: url, download: name }, "Save the PDF");
    // Browsers without a viewer would save what is in a frame, without being asked.
    const shown = navigator.pdfViewerEnabled
      ? el("iframe.v-pdf", { src: url, title: name })
      : el("p.v-note", {}, "This browser has no PDF viewer of its own.");
    return [el("p", {}, link), shown];
  }
}
