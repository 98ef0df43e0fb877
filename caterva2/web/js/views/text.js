// Text files.

import { el } from "./dom.js";
import { extensionOf, FileView, isFile } from "./fileview.js";

const EXTENSIONS = new Set(
  (
    ".txt .text .log .csv .tsv .json .jsonl .geojson .yaml .yml .toml .ini .cfg .conf .xml .html .htm .css .js .mjs .ts .py .pyi .ipynb " +
    ".md .markdown .rst .tex .bib .sh .bat .c .h .cpp .hpp .cc .rs .go .java .jl .r .m .f90 .sql .diff .patch .svg .env .make"
  ).split(" "),
);

/** @param {any} info @param {string} path */
export function canView(info, path) {
  return (
    isFile(info) &&
    (EXTENSIONS.has(extensionOf(path)) || /(^|\/)(README|LICENSE|Makefile|CHANGES|AUTHORS)$/i.test(path))
  );
}

export class TextView extends FileView {
  static title = "Text";
  static most = 256 * 1024;

  /** @override */
  render(buffer) {
    if (!buffer.byteLength) return [el("p.v-note", {}, "This file is empty.")];
    const text = new TextDecoder().decode(buffer);
    return [el("pre.v-text", { tabindex: 0, role: "region", "aria-label": "Text of the file" }, text)];
  }
}
