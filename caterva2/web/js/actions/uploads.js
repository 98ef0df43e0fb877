// Uploads: files that go to a folder of one's own roots, two at a time, with progress, cancel and another try.

import { el } from "../views/dom.js";
import { chosenFiles, droppedFiles, hasFiles } from "./dropped.js";
import { bytes } from "./units.js";

const AT_ONCE = 2;
// Rows that are shown; of more files only the sum, and those that failed.
const SHOWN = 100;

/** @typedef {{path: string, file: File, sent: number, state: "waiting"|"sending"|"done"|"failed"|"cancelled", error: string, taken: boolean, stop: AbortController}} Upload */

/** The panel with the uploads; it is there while there are any. */
export class Uploads {
  /**
   * @param {HTMLElement} host
   * @param {{upload: (path: string, file: File, options: object) => Promise<string>}} api
   * @param {{done?: (path: string) => void}} [options] `done` is called with each path that has arrived
   */
  constructor(host, api, { done } = {}) {
    this.api = api;
    this.done = done;
    /** @type {Upload[]} */
    this.all = [];
    this.sum = el("strong", {});
    this.meter = el("progress", { max: "1", value: "0", "aria-label": "All uploads" });
    this.list = el("ul.a-uploads", {});
    this.status = el("p.a-unseen", { role: "status" });
    this.cancelAll = el("button.a-button", { type: "button", onclick: () => this.cancel() }, "Cancel all");
    this.close = el("button.a-button", { type: "button", onclick: () => this.clear() }, "Close");
    const head = el("div.a-row", {}, this.sum, el("span.a-space"), this.cancelAll, this.close);
    this.element = el("section.a-panel.a-sending", { "aria-label": "Uploads", hidden: true }, head, this.meter, this.list, this.status);
    host.append(this.element);
    this.leaving = (event) => { if (this.busy) event.preventDefault(); };
    addEventListener("beforeunload", this.leaving);
  }

  get busy() {
    return this.all.some(({ state }) => state === "waiting" || state === "sending");
  }

  /**
   * Send files; names that are taken are asked about by their rows, and replace nothing by themselves.
   * @param {import("./dropped.js").Found[]} found
   * @param {string} folder root/dir, without a slash at its end
   */
  add(found, folder) {
    const added = found.map(({ path, file }) => ({
      path: `${folder}/${path}`, file, sent: 0, state: /** @type {const} */ ("waiting"), error: "", taken: false, stop: new AbortController(),
    }));
    this.all.push(...added);
    for (const upload of added.slice(0, Math.max(0, SHOWN - this.list.children.length))) this.row(upload);
    this.element.hidden = false;
    this.next();
  }

  next() {
    const sending = this.all.filter(({ state }) => state === "sending").length;
    const waiting = this.all.filter(({ state }) => state === "waiting").slice(0, AT_ONCE - sending);
    for (const upload of waiting) this.send(upload);
    this.draw();
  }

  async send(upload, replace = false) {
    Object.assign(upload, { state: "sending", sent: 0, error: "", taken: false, stop: new AbortController() });
    this.drawRow(upload);
    try {
      const path = await this.api.upload(upload.path, upload.file, {
        signal: upload.stop.signal,
        headers: replace ? {} : { "If-None-Match": "*" },
        progress: (sent) => {
          upload.sent = Math.min(sent, upload.file.size);
          this.drawRow(upload);
          this.draw();
        },
      });
      Object.assign(upload, { state: "done", sent: upload.file.size });
      this.done?.(path);
    } catch (error) {
      const cancelled = upload.stop.signal.aborted;
      upload.taken = error.status === 412;
      Object.assign(upload, { state: cancelled ? "cancelled" : "failed", error: upload.taken ? "the name is taken" : error.detail ?? error.message });
      if (!this.rowOf(upload)) this.row(upload);
    }
    this.drawRow(upload);
    this.next();
  }

  cancel() {
    for (const upload of this.all) {
      if (upload.state === "waiting") upload.state = "cancelled";
      upload.stop.abort();
      this.drawRow(upload);
    }
    this.draw();
  }

  clear() {
    this.all = [];
    this.list.replaceChildren();
    this.element.hidden = true;
  }

  draw() {
    const total = this.all.reduce((sum, { file }) => sum + file.size, 0);
    const sent = this.all.reduce((sum, upload) => sum + (upload.state === "done" ? upload.file.size : upload.sent), 0);
    const failed = this.all.filter(({ state }) => state === "failed").length;
    const cancelled = this.all.filter(({ state }) => state === "cancelled").length;
    const done = this.all.filter(({ state }) => state === "done").length;
    this.meter.value = total ? sent / total : this.busy ? 0 : 1;
    this.sum.textContent = this.busy
      ? `Uploading ${done + 1} of ${this.all.length} (${bytes(sent)} of ${bytes(total)})`
      : `${done} of ${this.all.length} uploaded${failed ? `, ${failed} failed` : ""}${cancelled ? `, ${cancelled} cancelled` : ""}`;
    this.cancelAll.hidden = !this.busy;
    this.close.hidden = this.busy;
    if (!this.busy && this.status.textContent !== this.sum.textContent) this.status.textContent = this.sum.textContent;
    if (this.busy) this.status.textContent = "";
  }

  row(upload) {
    const bar = el("progress", { max: "1", value: "0", "aria-label": upload.path });
    const item = el("li", {}, el("span.a-name", {}, upload.path), bar, el("span.a-state", {}), el("span.a-row", {}));
    /** @type {any} */ (item).upload = upload;
    this.list.append(item);
    this.drawRow(upload);
  }

  rowOf(upload) {
    return [...this.list.children].find((item) => /** @type {any} */ (item).upload === upload);
  }

  drawRow(upload) {
    const item = this.rowOf(upload);
    if (!item) return;
    const [, bar, state, buttons] = item.children;
    /** @type {any} */ (bar).value = upload.state === "done" ? 1 : upload.file.size ? upload.sent / upload.file.size : 0;
    state.textContent = upload.state === "failed" ? upload.error : upload.state === "sending" ? bytes(upload.sent) : upload.state;
    if (item.getAttribute("data-state") === upload.state) return;
    item.setAttribute("data-state", upload.state);
    buttons.replaceChildren(...this.buttons(upload));
  }

  buttons(upload) {
    const button = (text, act) => el("button.a-button", { type: "button", "aria-label": `${text} ${upload.path}`, onclick: act }, text);
    const stop = () => {
      if (upload.state === "waiting") upload.state = "cancelled";
      upload.stop.abort();
      this.drawRow(upload);
      this.draw();
    };
    if (upload.state === "waiting" || upload.state === "sending") return [button("Cancel", stop)];
    if (upload.taken) return [button("Replace", () => this.send(upload, true))];
    return upload.state === "done" ? [] : [button("Try again", () => this.send(upload))];
  }

  destroy() {
    this.cancel();
    removeEventListener("beforeunload", this.leaving);
    this.element.remove();
  }
}

/**
 * Let files be dropped on an element.
 * @param {HTMLElement} target
 * @param {(found: import("./dropped.js").Found[]) => void} take
 * @param {(error: any) => void} fail
 * @returns {() => void} ends that
 */
export function dropZone(target, take, fail) {
  const ended = new AbortController();
  const on = (name, react) => target.addEventListener(name, react, { signal: ended.signal });
  let inside = 0;
  const mark = () => target.toggleAttribute("data-dropping", inside > 0);
  on("dragenter", (event) => { if (hasFiles(event.dataTransfer)) { inside += 1; mark(); event.preventDefault(); } });
  on("dragover", (event) => { if (hasFiles(event.dataTransfer)) event.preventDefault(); });
  on("dragleave", (event) => { if (hasFiles(event.dataTransfer)) { inside = Math.max(0, inside - 1); mark(); } });
  on("drop", async (event) => {
    inside = 0;
    mark();
    if (!hasFiles(event.dataTransfer)) return;
    event.preventDefault();
    try {
      take(await droppedFiles(event.dataTransfer));
    } catch (error) {
      fail(error);
    }
  });
  return () => ended.abort();
}

/**
 * Buttons that do the same without a mouse.
 * @param {(found: import("./dropped.js").Found[]) => void} take
 * @returns {HTMLElement}
 */
export function chooseButtons(take) {
  const chooser = (text, properties) => {
    const input = el("input", { type: "file", hidden: true, multiple: true, ...properties });
    input.addEventListener("change", () => { take(chosenFiles(input.files)); input.value = ""; });
    return [el("button.a-button", { type: "button", onclick: () => input.click() }, text), input];
  };
  return el("div.a-tools.a-row", {}, ...chooser("Upload files\u2026", {}), ...chooser("Upload a folder\u2026", { webkitdirectory: true }));
}
