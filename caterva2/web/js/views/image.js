// Pictures that are arrays: the last axis has the colours, RGB, RGBA, or ARGB.

import { Look } from "../look.js";
import { statisticsOf } from "../statistics.js";
import { ArrayView } from "./arrayview.js";
import { AxesControl } from "./axes.js";
import { costOf } from "./cost.js";
import { el, stateChoice } from "./dom.js";
import { Figures } from "./figures.js";
import { loadPlane, sampling, stepsFor } from "./plane.js";
import { Raster } from "./raster.js";
import { zoomButtons } from "./zoom.js";

const ORDERS = { rgba: [0, 1, 2, 3], argb: [1, 2, 3, 0] };

/** @param {any} info of GET /api/info */
export function canView(info) {
  const { shape, dtype } = info;
  return (
    Array.isArray(shape) &&
    shape.length >= 3 &&
    dtype === "uint8" &&
    !shape.includes(0) &&
    [3, 4].includes(shape.at(-1))
  );
}

export class ImageView extends ArrayView {
  static title = "Image";

  build() {
    const { shape } = this.dataset.info;
    const colours = shape.length - 1;
    const look = Look.of(shape.slice(0, -1), 2, this.state);
    // The axis of the colours is always read as a whole.
    this.look = this.withColours(look);
    this.axes = new AxesControl({ look, names: ["Rows", "Columns"], onlook: (chosen) => this.moved(chosen) });
    this.raster?.destroy();
    this.raster = new Raster({
      label:
        "Image. Arrow keys move the cursor, plus and minus zoom, Shift and arrow keys move the region, 0 shows all.",
      onlook: (chosen) => this.moved(chosen),
      describe: (row, column) => this.describe(row, column),
      onsize: () => this.refresh(),
    });
    this.figures = new Figures();
    this.controls.append(this.axes.element);
    if (shape[colours] === 4) {
      const order = stateChoice(
        (changes) => this.change(changes),
        "order",
        "Colours",
        [
          ["rgba", "RGBA"],
          ["argb", "ARGB"],
        ],
        this.state.order,
      );
      this.controls.append(order.element);
    }
    this.controls.append(zoomButtons(this.raster));
    this.body.append(el("div.v-columns", {}, this.raster.element, this.figures.element));
  }

  withColours(look) {
    const { shape } = this.dataset.info;
    const axes = [...look.axes, shape.length - 1];
    return new Look(shape, axes, [...look.regions, { start: 0, stop: shape.at(-1) }]);
  }

  moved(look) {
    this.look = this.withColours(look);
    this.axes.set(look);
    this.change(look.toState());
  }

  async refresh() {
    const look = new Look(this.look.shape.slice(0, -1), this.look.axes.slice(0, 2), this.look.regions.slice(0, -1));
    this.raster.place(look);
    if (!this.gate.passes(costOf(this.dataset.info, this.look, stepsFor(this.look, this.raster.pixels)))) return;
    await this.loader.run(
      (signal) => loadPlane(this.api, this.dataset.path, this.look, this.raster.pixels, { signal }),
      (plane) => {
        this.plane = plane;
        this.figures.show(plane.values, statisticsOf(plane.values), `${sampling(plane)}, of all colours`);
        this.raster.paint(plane, rgba(plane, this.state.order === "argb" ? ORDERS.argb : ORDERS.rgba));
      },
    );
  }

  describe(row, column) {
    const start = (row * this.plane.columns + column) * this.plane.items;
    return Array.from({ length: this.plane.items }, (_, i) => this.plane.values[start + i]).join(", ");
  }

  destroy() {
    this.raster?.destroy();
    super.destroy();
  }
}

/** @param {import("./plane.js").Plane} plane @param {number[]} order @returns {Uint8ClampedArray} */
function rgba({ values, rows, columns, items }, order) {
  const pixels = new Uint8ClampedArray(rows * columns * 4);
  for (let i = 0; i < rows * columns; i += 1) {
    for (let c = 0; c < 3; c += 1) pixels[4 * i + c] = values[i * items + (items === 4 ? order[c] : c)];
    pixels[4 * i + 3] = items === 4 ? values[i * items + order[3]] : 255;
  }
  return pixels;
}
