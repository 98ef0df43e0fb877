// Jupyter notebooks, to be read: nothing in them runs, and what they show is sanitised.

import { fragmentOfHtml, fragmentOfMarkdown, linksOf } from "../sanitise.js";
import { el } from "./dom.js";
import { extensionOf, FileView, isFile } from "./fileview.js";

const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const MOST_CELLS = 1000;

/** @param {any} info @param {string} path */
export function canView(info, path) {
  return isFile(info) && extensionOf(path) === ".ipynb";
}

export class NotebookView extends FileView {
  static title = "Notebook";
  static most = 32 * 1024 * 1024;

  /** @override */
  render(buffer) {
    let cells;
    try {
      const notebook = JSON.parse(new TextDecoder().decode(buffer));
      cells = notebook.cells ?? notebook.worksheets?.flatMap((sheet) => sheet.cells);
      if (!Array.isArray(cells)) throw new Error("it has no cells");
    } catch (error) {
      this.loader.say(`This is no notebook: ${error.message}. Look at it as text.`);
      return [];
    }
    this.links = linksOf(this.dataset.path, this.api);
    const rest =
      cells.length > MOST_CELLS ? [el("p.v-note", {}, `${cells.length - MOST_CELLS} more cells are not shown.`)] : [];
    return [el("article.v-notebook", {}, ...cells.slice(0, MOST_CELLS).map((cell) => this.cell(cell)), ...rest)];
  }

  cell(cell) {
    const source = joined(cell?.source ?? cell?.input);
    if (cell?.cell_type === "markdown") return el("div.v-document", {}, fragmentOfMarkdown(source, this.links));
    if (cell?.cell_type !== "code") return el("pre.v-code", { tabindex: 0 }, source);
    const number = Number.isInteger(cell.execution_count) ? String(cell.execution_count) : " ";
    const outputs = Array.isArray(cell.outputs) ? cell.outputs.map((output) => this.output(output)) : [];
    return el(
      "section.v-cell",
      { "aria-label": `Code cell ${number.trim()}` },
      el("span.v-prompt", { "aria-hidden": "true" }, `[${number}]`),
      el("pre.v-code", { tabindex: 0 }, source),
      ...outputs.map((output) => el("div.v-output", {}, output)),
    );
  }

  /** @returns {Node} */
  output(output) {
    if (output?.output_type === "stream") return text(joined(output.text));
    if (output?.output_type === "error" || output?.output_type === "pyerr") {
      const trace = Array.isArray(output.traceback) ? output.traceback.join("\n") : `${output.ename}: ${output.evalue}`;
      return text(trace, "v-trace");
    }
    return this.data(output?.data ?? output ?? {});
  }

  data(data) {
    const picture = PICTURES.find((type) => data[type]);
    if (picture) return this.picture(decoded(joined(data[picture])), picture);
    if (data["image/svg+xml"]) return this.picture(joined(data["image/svg+xml"]), "image/svg+xml");
    if (data["text/html"]) return el("div.v-document", {}, fragmentOfHtml(joined(data["text/html"]), this.links));
    if (data["text/markdown"])
      return el("div.v-document", {}, fragmentOfMarkdown(joined(data["text/markdown"]), this.links));
    return text(joined(data["text/plain"] ?? data["text/latex"] ?? data.text ?? ""));
  }

  picture(part, type) {
    return part === null
      ? text("[a damaged picture]")
      : el("img.v-image", { src: this.blobUrl(part, type), alt: "Output of the cell" });
  }
}

function joined(text) {
  return Array.isArray(text) ? text.join("") : String(text ?? "");
}

function text(content, more = "") {
  // Terminals' colour codes.
  const plain = content.replace(/\u001b\[[0-9;]*[A-Za-z]/g, "");
  return el(`pre.v-code${more && `.${more}`}`, { tabindex: 0 }, plain);
}

function decoded(base64) {
  try {
    return Uint8Array.from(atob(base64.replace(/\s/g, "")), (char) => char.charCodeAt(0));
  } catch {
    return null;
  }
}
