// Two axes of numbers as colours.

import { COLORMAPS, colour, palette } from "../colormaps.js";
import { Look } from "../look.js";
import { nearlyEqual, quantiles, statisticsOf, ticks } from "../statistics.js";
import { formatCount, formatShort, formatValue } from "../values.js";
import { ArrayView, canDraw } from "./arrayview.js";
import { AxesControl } from "./axes.js";
import { costOf } from "./cost.js";
import { el, newId, stateChoice } from "./dom.js";
import { Figures } from "./figures.js";
import { loadPlane, sampling, stepsFor } from "./plane.js";
import { Raster } from "./raster.js";
import { zoomButtons } from "./zoom.js";

const RANGES = [
  ["full", "all values"],
  ["robust", "2\u201398 %"],
];

/** @param {any} info of GET /api/info */
export function canView(info) {
  return canDraw(info) && info.shape.length >= 2;
}

export class HeatmapView extends ArrayView {
  static title = "Heat map";

  build() {
    this.look = Look.of(this.dataset.info.shape, 2, this.state);
    this.buildField();
    this.axes = new AxesControl({ look: this.look, names: ["Rows", "Columns"], onlook: (look) => this.moved(look) });
    this.raster?.destroy();
    this.bar = new ColourBar();
    this.raster = new Raster({
      label:
        "Heat map. Arrow keys move the cursor, plus and minus zoom, Shift and arrow keys move the region, 0 shows all.",
      onlook: (look) => this.moved(look),
      describe: (row, column) => this.describe(row, column),
      onsize: () => this.refresh(),
      side: this.bar.element,
    });
    this.figures = new Figures();
    this.controls.append(this.axes.element, ...this.scaleControls(), zoomButtons(this.raster), this.limits());
    this.note = el("p.v-muted");
    this.body.append(el("div.v-columns", {}, el("div", {}, this.raster.element, this.note), this.figures.element));
  }

  scaleControls() {
    const redraw = (changes) => this.change(changes, () => this.draw());
    const chosen = RANGES.some(([key]) => key === this.state.range) ? this.state.range : undefined;
    return [
      stateChoice(redraw, "cmap", "Colours", COLORMAPS, this.state.cmap).element,
      stateChoice(
        redraw,
        "scale",
        "Scale",
        [
          ["linear", "linear"],
          ["log", "logarithmic"],
        ],
        this.state.scale,
      ).element,
      (this.rangeChoice = stateChoice(redraw, "range", "Range", RANGES, chosen)).element,
    ];
  }

  limits() {
    const set = () => {
      const [low, high] = [this.low.value, this.high.value];
      if (low === "" || high === "" || Number(low) >= Number(high)) return;
      this.change({ range: `${low}:${high}` }, () => this.draw());
    };
    const field = (label) => {
      const id = newId("limit");
      const input = el("input.v-limit", { id, type: "number", step: "any", onchange: set });
      return { input, element: el("span.v-field", {}, el("label", { for: id }, label), input) };
    };
    const [low, high] = [field("From"), field("to")];
    this.low = low.input;
    this.high = high.input;
    return el("span.v-limits", {}, low.element, high.element);
  }

  moved(look) {
    this.look = look;
    this.axes.set(look);
    this.change(look.toState());
  }

  async refresh() {
    this.raster.place(this.look);
    if (!this.gate.passes(costOf(this.dataset.info, this.look, stepsFor(this.look, this.raster.pixels)))) return;
    const options = { field: this.drawn.name, part: this.part };
    await this.loader.run(
      (signal) => loadPlane(this.api, this.dataset.path, this.look, this.raster.pixels, { ...options, signal }),
      (plane) => {
        this.plane = plane;
        this.figuresOf = statisticsOf(plane.values);
        this.figures.show(plane.values, this.figuresOf, sampling(plane));
        this.draw();
      },
    );
  }

  draw() {
    if (!this.plane) return;
    const scale = this.scale();
    const colours = palette(this.state.cmap ?? COLORMAPS[0]);
    const pixels = new Uint32Array(this.plane.values.length);
    colour(this.plane.values, pixels, colours, scale);
    this.raster.paint(this.plane, new Uint8ClampedArray(pixels.buffer));
    this.bar.show(colours, scale, this.raster.size.height);
    this.bar.element.style.visibility = this.figuresOf.finite ? "visible" : "hidden";
    this.sayUncoloured(scale);
    const fixed = /^[^:]+:[^:]+$/.test(this.state.range ?? "");
    if (!fixed) this.rangeChoice.select.value = this.state.range ?? "full";
    this.low.value = figure(scale.low);
    this.high.value = figure(scale.high);
  }

  sayUncoloured({ log }) {
    let count = 0;
    if (log) for (let i = 0; i < this.plane.values.length; i += 1) if (this.plane.values[i] <= 0) count += 1;
    this.note.textContent = count
      ? `${formatCount(count)} values of zero or less have no colour on a logarithmic scale.`
      : "";
  }

  /** @returns {{low: number, high: number, log: boolean}} */
  scale() {
    const { min, max, smallestPositive } = this.figuresOf;
    const log = this.state.scale === "log" && smallestPositive > 0;
    let [low, high] = [min, max];
    const fixed = /^([^:]+):([^:]+)$/.exec(this.state.range ?? "");
    if (this.state.range === "robust") ({ low, high } = quantiles(this.plane.values, 0.02));
    else if (fixed && Number(fixed[1]) < Number(fixed[2])) [low, high] = [Number(fixed[1]), Number(fixed[2])];
    if (log && !(low > 0)) low = smallestPositive;
    if (!fixed && nearlyEqual(low, high)) high = low;
    return { low, high, log };
  }

  describe(row, column) {
    const value = this.plane.at(row, column);
    const text = formatValue(value, this.plane.dtype);
    if (this.plane.dtype.kind !== "c") return text;
    return `${text} (${formatShort(this.plane.values[row * this.plane.columns + column])})`;
  }

  destroy() {
    this.raster?.destroy();
    super.destroy();
  }
}

function figure(value) {
  if (!Number.isFinite(value)) return "";
  return value && Math.abs(value) < 1e-3 ? value.toExponential(4) : String(Number(value.toPrecision(6)));
}

/** The colours with the values that they stand for. */
class ColourBar {
  constructor() {
    this.canvas = el("canvas", { width: 1, height: 256 });
    this.labels = el("div.v-bar-labels");
    this.element = el("div.v-bar", { role: "img" }, this.canvas, this.labels);
  }

  /** @param {Uint32Array} colours @param {{low: number, high: number, log: boolean}} scale @param {number} height */
  show(colours, { low, high, log }, height) {
    this.element.style.height = `${Math.max(height, 120)}px`;
    const pixels = new Uint8ClampedArray(colours.slice().reverse().buffer);
    this.canvas.getContext("2d").putImageData(new ImageData(pixels, 1, 256), 0, 0);
    const map = log ? Math.log10 : (x) => x;
    const [bottom, top] = [map(low), map(high)];
    const places = log ? decades(low, high) : ticks(low, high, 6);
    this.labels.replaceChildren(
      ...places.map((value) => {
        const label = el("span", {}, formatShort(value));
        label.style.bottom = `${top > bottom ? ((map(value) - bottom) / (top - bottom)) * 100 : 50}%`;
        return label;
      }),
    );
    this.element.setAttribute(
      "aria-label",
      `Colours from ${formatShort(low)} to ${formatShort(high)}${log ? ", logarithmic" : ""}`,
    );
  }
}

function decades(low, high) {
  const powers = ticks(Math.log10(low), Math.log10(high), 6).filter(Number.isInteger);
  return powers.length > 1 ? powers.map((power) => 10 ** power) : ticks(low, high, 4).filter((value) => value > 0);
}
