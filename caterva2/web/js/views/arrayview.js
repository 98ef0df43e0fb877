// What the views of arrays share: their state, their field, their controls, and how they are told of changes.

import { dtypeName, isNumeric, parseDtype } from "../dtypes.js";
import { Gate } from "./cost.js";
import { el, stateChoice } from "./dom.js";
import { Loader } from "./loader.js";

/** @typedef {{path: string, info: any}} Dataset `info` is the answer of GET /api/info; the shell renews it */
/** @typedef {{slice?: string, field?: string, filter?: string, sortby?: string}} Selection */
/** @typedef {Record<string, string|undefined>} State what stands in the URL's query */

const PARTS = [
  ["abs", "magnitude"],
  ["phase", "phase"],
  ["re", "real part"],
  ["im", "imaginary part"],
];

/** A view of an array: subclasses build their controls in `build`, and load and draw in `refresh`. */
export class ArrayView {
  /**
   * @param {HTMLElement} host is filled by this
   * @param {Dataset} dataset
   * @param {import("./registry.js").Api} api
   */
  constructor(host, dataset, api) {
    this.host = host;
    this.dataset = dataset;
    this.api = api;
    /** @type {State} */
    this.state = {};
    /** @type {import("../look.js").Look|null} */
    this.look = null;
    this.controls = el("div.v-controls");
    this.body = el("div.v-body");
    this.element = el("div.v-view", {}, this.controls, this.body);
    this.loader = new Loader(this.element);
    this.gate = new Gate(() => void this.refresh());
    this.shown = "";
    host.replaceChildren(this.element);
  }

  /** Show a state, which comes from the URL. @param {State} state */
  async show(state) {
    this.state = { ...state };
    this.controls.replaceChildren();
    this.body.replaceChildren();
    this.shown = this.form();
    this.body.append(this.gate.element);
    this.build();
    await this.refresh();
  }

  /** The dataset has changed: show it in place, and begin anew only if its form is another. */
  async update() {
    if (this.form() !== this.shown) await this.show(this.state);
    else await this.refresh();
  }

  destroy() {
    this.loader.stop();
    this.element.remove();
  }

  /**
   * Change the state, and tell the shell.
   * @param {State} changes undefined takes a key out
   * @param {() => void} [then] what must be done for it; nothing less than to load anew, if left out
   */
  change(changes, then = () => void this.refresh()) {
    this.state = { ...this.state, ...changes };
    this.host.dispatchEvent(new CustomEvent("view-state", { detail: this.state, bubbles: true }));
    then();
  }

  form() {
    return JSON.stringify([this.dataset.info.shape, this.dataset.info.dtype]);
  }

  build() {}

  async refresh() {}

  /** @returns {Selection} what is on screen, as GET /api/fetch takes it; empty if it is all of the array */
  get selection() {
    return { slice: this.sliceShown, field: this.drawn.name };
  }

  get sliceShown() {
    const slice = this.look?.text();
    return slice && /\d/.test(slice) ? slice : undefined;
  }

  /** @returns {{name: string|undefined, dtype: import("../dtypes.js").Dtype}} the field that is drawn, or the array */
  get drawn() {
    const dtype = parseDtype(this.dataset.info.dtype);
    if (dtype.kind !== "r") return { name: undefined, dtype };
    const fields = drawable(dtype);
    const field = fields.find(({ name }) => name === this.state.field) ?? fields[0];
    return { name: field.name, dtype: field.dtype };
  }

  /** @returns {"abs"|"phase"|"re"|"im"} */
  get part() {
    const part = this.state.part;
    return part === "phase" || part === "re" || part === "im" ? part : "abs";
  }

  /** Add the choice of the field of a record, and of the part of complex numbers. */
  buildField() {
    const dtype = parseDtype(this.dataset.info.dtype);
    const change = (changes) => {
      this.change(changes);
      partChoice.element.hidden = this.drawn.dtype.kind !== "c";
    };
    const partChoice = stateChoice(change, "part", "Part", PARTS, this.state.part);
    partChoice.element.hidden = this.drawn.dtype.kind !== "c";
    if (dtype.kind === "r") {
      const names = drawable(dtype).map(({ name, dtype: inner }) => [name, `${name} (${dtypeName(inner)})`]);
      this.controls.append(stateChoice(change, "field", "Field", names, this.drawn.name).element);
    }
    this.controls.append(partChoice.element);
  }
}

/** @param {import("../dtypes.js").Dtype} record @returns {import("../dtypes.js").Field[]} fields that are one number */
function drawable(record) {
  return record.fields.filter((field) => !field.shape.length && isNumeric(field.dtype));
}

/** @param {any} info @returns {boolean} whether there is something to draw in an array */
export function canDraw(info) {
  if (!Array.isArray(info.shape) || info.shape.includes(0)) return false;
  try {
    const dtype = parseDtype(info.dtype);
    return dtype.kind === "r" ? drawable(dtype).length > 0 : isNumeric(dtype);
  } catch {
    return false;
  }
}
