// Markdown files.

import { fragmentOfMarkdown, linksOf } from "../sanitise.js";
import { el } from "./dom.js";
import { extensionOf, FileView, isFile } from "./fileview.js";

/** @param {any} info @param {string} path */
export function canView(info, path) {
  return isFile(info) && [".md", ".markdown"].includes(extensionOf(path));
}

export class MarkdownView extends FileView {
  static title = "Document";
  static most = 1024 * 1024;

  /** @override */
  render(buffer) {
    if (!buffer.byteLength) return [el("p.v-note", {}, "This file is empty.")];
    const links = linksOf(this.dataset.path, this.api);
    return [el("article.v-document", {}, fragmentOfMarkdown(new TextDecoder().decode(buffer), links))];
  }
}
