// Which views there are for a dataset, the most telling first.

import * as bytes from "./bytes.js";
import * as heatmap from "./heatmap.js";
import * as image from "./image.js";
import * as line from "./line.js";
import * as markdown from "./markdown.js";
import * as notebook from "./notebook.js";
import * as pdf from "./pdf.js";
import * as picture from "./picture.js";
import * as records from "./records.js";
import * as table from "./table.js";
import * as text from "./text.js";

/**
 * What views need of api.js.
 * @typedef {object} Api
 * @property {(path: string, query: {slice_?: string, field?: string, filter?: string, sortby?: string},
 *     options?: {signal?: AbortSignal}) => Promise<ArrayBuffer>} array GET /api/fetch with format=npy
 * @property {(path: string, query: {slice_: string}, options?: {signal?: AbortSignal}) => Promise<ArrayBuffer>} frame
 *     GET /api/fetch as a Blosc2 frame
 * @property {(path: string, range: {start: number, stop: number, signal?: AbortSignal}) => Promise<ArrayBuffer>} contents
 *     GET /api/download of a plain file, with a Range
 * @property {(path: string) => string} downloadUrl of a file, below the page's base
 * @property {(path: string) => string} viewUrl of the page of a dataset
 */
/**
 * @typedef {object} View
 * @property {(state: Record<string, string|undefined>) => Promise<void>} show fills the host; what is in the URL's query
 * @property {() => Promise<void>} update the dataset has changed, and `dataset.info` is the new one
 * @property {import("./arrayview.js").Selection} [selection] what is on screen, as GET /api/fetch takes it; files have none
 * @property {() => void} destroy
 */
/**
 * @typedef {object} Kind
 * @property {string} key in the URL: ?view=heatmap
 * @property {string} title
 * @property {new (host: HTMLElement, dataset: import("./arrayview.js").Dataset, api: Api) => View} View tells of a new
 *     state by an event "view-state" of its host, whose detail is the whole state
 */

/** @type {[string, any, any][]} */
const KINDS = [
  ["image", image, image.ImageView],
  ["records", records, records.RecordsView],
  ["heatmap", heatmap, heatmap.HeatmapView],
  ["line", line, line.LineView],
  ["table", table, table.TableView],
  ["picture", picture, picture.PictureView],
  ["pdf", pdf, pdf.PdfView],
  ["notebook", notebook, notebook.NotebookView],
  ["markdown", markdown, markdown.MarkdownView],
  ["text", text, text.TextView],
  ["bytes", bytes, bytes.BytesView],
];

/**
 * @param {import("./arrayview.js").Dataset} dataset
 * @returns {Kind[]} never empty; the first is the one to begin with
 */
export function viewsFor({ path, info }) {
  const found = KINDS.filter(([, module]) => module.canView(info, path));
  // The records' own table is the better one.
  const kinds = found.some(([key]) => key === "records") ? found.filter(([key]) => key !== "table") : found;
  return kinds.map(([key, , View]) => ({ key, title: View.title, View }));
}
