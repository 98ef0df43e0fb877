// The drawing of a line plot, as SVG: it takes the colours of the page, and is sharp on every screen.

import { statisticsOf, ticks } from "../statistics.js";
import { formatShort } from "../values.js";
import { svg } from "./dom.js";
import { listenForDrags } from "./gestures.js";
import { HINT, LEAST_DRAG, Plot } from "./plot.js";

const LEFT = 68;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 28;

/**
 * @typedef {import("./plot.js").Options & {describe: (i: number) => string}} Options `describe` tells the i-th value that
 *   was read
 */

export class Chart extends Plot {
  /** @param {Options} options */
  constructor(options) {
    const drawing = svg("svg", { "aria-hidden": "true" });
    super(options, { name: "div.v-plot.v-chart", role: "zoomable plot", inside: [drawing] });
    this.drawing = drawing;
    this.describe = options.describe;
    this.cursor = 0;
    this.listen();
  }

  /** @param {import("../look.js").Look} look */
  place(look) {
    this.look = look;
    this.width = this.element.clientWidth || 640;
    const height = Math.max(200, Math.min(window.innerHeight * 0.5, this.width * 0.6, 520));
    this.size = { width: Math.max(120, this.width - LEFT - RIGHT), height: height - TOP - BOTTOM };
    this.drawing.setAttribute("width", String(this.width));
    this.drawing.setAttribute("height", String(height));
    if (this.values) this.draw(this.values, this.read);
  }

  get region() {
    return this.look.regions[this.look.axes[0]];
  }

  /** @param {ArrayLike<number>} values @param {{start: number, step: number, log: boolean}} read */
  draw(values, read) {
    this.values = values;
    this.read = read;
    const figures = statisticsOf(values);
    this.log = read.log && figures.smallestPositive > 0;
    const [low, high] = this.range(figures);
    const { width, height } = this.size;
    this.x = (index) =>
      LEFT + ((index - this.region.start) / Math.max(1, this.region.stop - 1 - this.region.start)) * width;
    const map = this.log ? Math.log10 : (value) => value;
    this.y = (value) => TOP + height - ((map(value) - low) / (high - low)) * height;
    this.spot = svg(
      "g.v-cursor",
      { hidden: true },
      svg("line", { y1: TOP, y2: TOP + height }),
      svg("circle", { r: 4 }),
    );
    this.band = svg("rect.v-band", { y: TOP, height, width: 0 });
    const clip = svg(
      "svg",
      {
        x: LEFT,
        y: 0,
        width: width + 1,
        height: TOP + height + 2,
        viewBox: `${LEFT} 0 ${width + 1} ${TOP + height + 2}`,
      },
      ...this.line(),
    );
    this.drawing.replaceChildren(...this.grid(low, high), clip, this.spot, this.band);
    if (!figures.finite)
      this.drawing.append(
        svg("text", { x: LEFT + width / 2, y: TOP + height / 2, "text-anchor": "middle" }, "no finite value here"),
      );
    if (this.pointed) this.point(this.cursor);
  }

  range({ finite, min, max, smallestPositive }) {
    if (!finite) return [0, 1];
    const [low, high] = this.log ? [Math.log10(smallestPositive), Math.log10(max)] : [min, max];
    const margin = (high - low) * 0.04 || Math.abs(high) * 0.05 || 1;
    return [low - margin, high + margin];
  }

  grid(low, high) {
    const { width, height } = this.size;
    const bottom = TOP + height;
    const across = ticks(this.region.start, this.region.stop - 1, Math.max(2, width / 90))
      .filter(Number.isInteger)
      .flatMap((tick) => [
        svg("line.v-rule", { x1: this.x(tick), x2: this.x(tick), y1: TOP, y2: bottom }),
        svg("text", { x: this.x(tick), y: bottom + 18, "text-anchor": "middle" }, formatShort(tick, 9)),
      ]);
    const places = ticks(low, high, Math.max(2, height / 45));
    const powers = places.filter(Number.isInteger);
    const marks = this.log ? (powers.length > 1 ? powers : places).map((power) => 10 ** power) : places;
    const up = marks.flatMap((tick) => [
      svg("line.v-rule", { x1: LEFT, x2: LEFT + width, y1: this.y(tick), y2: this.y(tick) }),
      svg("text", { x: LEFT - 8, y: this.y(tick) + 4, "text-anchor": "end" }, formatShort(tick)),
    ]);
    return [...across, ...up, svg("rect.v-frame", { x: LEFT, y: TOP, width, height })];
  }

  line() {
    const { start, step } = this.read;
    const pixels = Math.max(1, Math.floor(this.size.width));
    if (this.values.length > 2 * pixels) return [svg("path.v-envelope", { d: this.envelope(pixels) })];
    let [path, drawing] = ["", false];
    const lonely = [];
    for (let i = 0; i < this.values.length; i += 1) {
      const [x, y] = [this.x(start + i * step), this.y(this.values[i])];
      const there = Number.isFinite(y);
      if (there) path += `${drawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      const next = i + 1 < this.values.length && Number.isFinite(this.y(this.values[i + 1]));
      if (there && !drawing && !next) lonely.push(svg("circle.v-point", { cx: x, cy: y, r: 2.5 }));
      drawing = there;
    }
    const points = this.values.length <= pixels / 12 ? this.points() : lonely;
    return [svg("path.v-line", { d: path }), ...points];
  }

  points() {
    const { start, step } = this.read;
    return Array.from(this.values, (value, i) => ({ cx: this.x(start + i * step), cy: this.y(value), r: 2.5 }))
      .filter(({ cy }) => Number.isFinite(cy))
      .map((place) => svg("circle.v-point", place));
  }

  /** The least and the greatest value of each pixel, joined so that no gap is seen between neighbours. */
  envelope(pixels) {
    let path = "";
    let last = null;
    for (let pixel = 0; pixel < pixels; pixel += 1) {
      const [first, end] = [pixel, pixel + 1].map((p) => Math.floor((p * this.values.length) / pixels));
      let [low, high] = [Infinity, -Infinity];
      for (let i = first; i < end; i += 1) {
        const y = this.y(this.values[i]);
        if (Number.isFinite(y)) [low, high] = [Math.min(low, y), Math.max(high, y)];
      }
      if (low > high) {
        last = null;
        continue;
      }
      const x = LEFT + ((pixel + 0.5) * this.size.width) / pixels;
      const [from, to] = last ? [Math.min(low, last[1]), Math.max(high, last[0])] : [low, high];
      path += `M${x.toFixed(1)} ${(from - 0.5).toFixed(1)}V${(to + 0.5).toFixed(1)}`;
      last = [low, high];
    }
    return path;
  }

  /** @param {number} i the number of a value that was read */
  point(i) {
    if (!this.values?.length) return;
    this.pointed = true;
    this.cursor = Math.max(0, Math.min(i, this.values.length - 1));
    const index = this.read.start + this.cursor * this.read.step;
    const place = this.look.regions.map(({ start }, axis) => (this.look.shown(axis) ? index : start)).join(", ");
    this.readout.textContent = `[${place}] = ${this.describe(this.cursor)}`;
    const [x, y] = [this.x(index), this.y(this.values[this.cursor])];
    const [line, circle] = this.spot.children;
    this.spot.removeAttribute("hidden");
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    circle.setAttribute("cx", x);
    circle.setAttribute("cy", Number.isFinite(y) ? y : -99);
  }

  zoom(factor) {
    const { start, stop } = this.region;
    const middle = this.pointed ? this.read.start + this.cursor * this.read.step : (start + stop) / 2;
    const length = Math.max(2, (stop - start) * factor);
    const from = middle - length * ((middle - start) / (stop - start));
    this.go(this.look.withRegion(this.look.axes[0], { start: from, stop: from + length }));
  }

  pan(share) {
    this.go(this.moved(this.look, this.look.axes[0], share));
  }

  go(look) {
    if (look.text() === this.look.text()) return;
    this.pointed = false;
    this.readout.textContent = HINT;
    super.go(look);
  }

  indexAt(x) {
    const { start, stop } = this.region;
    return start + ((x - LEFT) / this.size.width) * Math.max(1, stop - 1 - start);
  }

  listen() {
    const at = (event) => {
      const { left } = this.plot.getBoundingClientRect();
      return { x: Math.max(LEFT, Math.min(event.clientX - left, LEFT + this.size.width)), y: 0 };
    };
    listenForDrags(this.plot, {
      at,
      moved: ({ x }, from) => {
        if (!this.read) return;
        this.readout.setAttribute("aria-live", "off");
        this.point(Math.round((this.indexAt(x) - this.read.start) / this.read.step));
        if (!from) return;
        this.band.setAttribute("x", String(Math.min(from.x, x)));
        this.band.setAttribute("width", String(Math.abs(x - from.x)));
      },
      done: (from, to) => {
        if (Math.abs(to.x - from.x) >= LEAST_DRAG) this.zoomTo(Math.min(from.x, to.x), Math.max(from.x, to.x));
      },
      ended: () => this.band?.setAttribute("width", "0"),
    });
  }

  zoomTo(left, right) {
    const [low, high] = [Math.floor(this.indexAt(left)), Math.ceil(this.indexAt(right))];
    this.go(this.look.withRegion(this.look.axes[0], { start: low, stop: Math.max(high + 1, low + 2) }));
  }

  key(key, shift) {
    const right = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (right && shift) this.pan(right / 4);
    else if (right) {
      this.readout.setAttribute("aria-live", "polite");
      this.point(this.cursor + right);
    } else return this.zoomKey(key);
    return true;
  }
}
