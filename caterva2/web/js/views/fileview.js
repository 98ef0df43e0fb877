// What the views of files share. A file is read up to a bound; the rest comes when it is asked for.

import { formatBytes } from "../values.js";
import { el } from "./dom.js";
import { Loader } from "./loader.js";

export class FileView {
  /**
   * @param {HTMLElement} host is filled by this
   * @param {import("./arrayview.js").Dataset} dataset
   * @param {import("./registry.js").Api} api
   */
  constructor(host, dataset, api) {
    this.host = host;
    this.dataset = dataset;
    this.api = api;
    this.most = /** @type {any} */ (this.constructor).most;
    /** @type {string[]} URLs of blobs that this made */
    this.urls = [];
    this.controls = el("div.v-controls");
    this.body = el("div.v-body");
    this.element = el("div.v-view", {}, this.controls, this.body);
    this.loader = new Loader(this.element);
    host.replaceChildren(this.element);
  }

  async show() {
    await this.refresh();
  }

  async update() {
    await this.refresh();
  }

  async refresh() {
    const size = this.dataset.info.nbytes;
    const stop = Math.min(size, this.most);
    await this.loader.run(
      (signal) =>
        size ? this.api.contents(this.dataset.path, { start: 0, stop, signal }) : Promise.resolve(new ArrayBuffer(0)),
      (buffer) => {
        this.release();
        this.controls.replaceChildren(...this.more(buffer.byteLength, size));
        this.body.replaceChildren(...this.render(buffer));
      },
    );
  }

  /** @param {number} shown @param {number} size @returns {HTMLElement[]} what says that this is not all */
  more(shown, size) {
    if (shown >= size) return [];
    const next = () => {
      this.most *= 4;
      this.refresh();
    };
    return [
      el("p.v-muted", { role: "status" }, `The first ${formatBytes(shown)} of ${formatBytes(size)}`),
      el("button.v-button", { type: "button", onclick: next }, "Show more"),
    ];
  }

  /** @param {ArrayBuffer} _buffer @returns {(Node|string)[]} */
  render(_buffer) {
    return [];
  }

  /** @param {BlobPart} part @param {string} type @returns {string} the URL of a blob, until the next is shown */
  blobUrl(part, type) {
    const url = URL.createObjectURL(new Blob([part], { type }));
    this.urls.push(url);
    return url;
  }

  release() {
    this.urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
  }

  destroy() {
    this.loader.stop();
    this.release();
    this.element.remove();
  }
}

/** @param {string} path @returns {string} ".md", in lower case */
export function extensionOf(path) {
  return /\.[^./]+$/.exec(path)?.[0].toLowerCase() ?? "";
}

/** @param {any} info @returns {boolean} */
export function isFile(info) {
  return !Array.isArray(info.shape);
}
