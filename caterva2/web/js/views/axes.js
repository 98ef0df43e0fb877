// Which axes are drawn, and where on the others: choices and sliders.

import { choice, el, newId } from "./dom.js";

/**
 * @typedef {object} Options
 * @property {import("../look.js").Look} look
 * @property {string[]} names of the drawn axes: ["Rows", "Columns"]
 * @property {number[]} [fixed] axes that cannot be chosen, such as that of the colours
 * @property {(look: import("../look.js").Look) => void} onlook
 */

/** The controls of a look; nothing is shown for an array that leaves no choice. */
export class AxesControl {
  /** @param {Options} options */
  constructor({ look, names, fixed = [], onlook }) {
    this.look = look;
    this.names = names;
    this.fixed = fixed;
    this.onlook = onlook;
    this.element = el("div.v-axes", { role: "group", "aria-label": "Axes" });
    this.build();
  }

  /** @param {import("../look.js").Look} look from elsewhere; the drawn axes are the same */
  set(look) {
    this.look = look;
  }

  build() {
    const { shape, axes } = this.look;
    const free = shape.map((_, axis) => axis).filter((axis) => !this.fixed.includes(axis));
    const choices = free.length > 1 && !(this.names.length === 1 && free.length < 2);
    const selects = choices
      ? axes.filter((axis) => !this.fixed.includes(axis)).map((axis, i) => this.axisChoice(free, axis, i))
      : [];
    const sliders = free.filter((axis) => !axes.includes(axis)).map((axis) => this.slider(axis));
    this.element.hidden = !selects.length && !sliders.length;
    this.element.replaceChildren(...selects, ...sliders);
  }

  axisChoice(free, axis, place) {
    const options = free.map((other) => [String(other), `axis ${other} (${this.look.shape[other]})`]);
    return choice(this.names[place], options, String(axis), (value) => {
      this.changed(this.look.withAxis(place, Number(value)));
      this.build();
      this.element.querySelectorAll("select")[place]?.focus();
    }).element;
  }

  slider(axis) {
    const [id, last] = [newId("axis"), this.look.shape[axis] - 1];
    const at = this.look.regions[axis].start;
    const move = (from, to) => () => {
      const look = this.look.withPosition(axis, Number(from.value) || 0);
      to.value = String(look.regions[axis].start);
      this.changed(look);
    };
    const range = el("input", { type: "range", id, min: 0, max: last, value: at });
    const number = el("input", {
      type: "number",
      min: 0,
      max: last,
      value: at,
      "aria-label": `Position on axis ${axis}`,
    });
    range.addEventListener("input", move(range, number));
    number.addEventListener("change", move(number, range));
    range.disabled = last < 1;
    const count = el("span.v-muted", {}, `of 0\u2013${last}`);
    return el("span.v-slider", {}, el("label", { for: id }, `Axis ${axis}`), range, number, count);
  }

  changed(look) {
    this.look = look;
    this.onlook(look);
  }
}
