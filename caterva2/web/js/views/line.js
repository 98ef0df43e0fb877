// One axis of numbers as a line; where a pixel covers several values, the range that they span.

import { Look } from "../look.js";
import { parseNpy } from "../npy.js";
import { statisticsOf } from "../statistics.js";
import { formatCount, formatValue } from "../values.js";
import { ArrayView, canDraw } from "./arrayview.js";
import { AxesControl } from "./axes.js";
import { Chart } from "./chart.js";
import { costOf } from "./cost.js";
import { stateChoice } from "./dom.js";
import { Figures } from "./figures.js";
import { stepFor } from "./plane.js";
import { zoomButtons } from "./zoom.js";

// Values read for each pixel of the width: enough that peaks between them are rare, few enough to come at once.
const DENSITY = 4;

/** @param {any} info of GET /api/info */
export function canView(info) {
  return canDraw(info) && info.shape.length >= 1;
}

export class LineView extends ArrayView {
  static title = "Line plot";

  build() {
    this.look = Look.of(this.dataset.info.shape, 1, this.state);
    this.buildField();
    this.axes = new AxesControl({ look: this.look, names: ["Along"], onlook: (look) => this.moved(look) });
    this.chart?.destroy();
    this.chart = new Chart({
      label:
        "Line plot. Left and right arrow keys move the cursor, plus and minus zoom, Shift and arrow keys move the region, 0 shows all.",
      onlook: (look) => this.moved(look),
      describe: (i) => formatValue(this.array.at(i), this.array.dtype),
      onsize: () => this.refresh(),
    });
    this.figures = new Figures();
    const redraw = (changes) => this.change(changes, () => this.draw());
    const scale = stateChoice(
      redraw,
      "scale",
      "Scale",
      [
        ["linear", "linear"],
        ["log", "logarithmic"],
      ],
      this.state.scale,
    );
    this.controls.append(this.axes.element, scale.element, zoomButtons(this.chart));
    this.body.append(this.chart.element, this.figures.element);
  }

  moved(look) {
    this.look = look;
    this.axes.set(look);
    this.change(look.toState());
  }

  async refresh() {
    const look = this.look;
    this.chart.place(look);
    const step = stepFor(look.extent(look.axes[0]), this.chart.size.width * DENSITY);
    const steps = new Map([[look.axes[0], step]]);
    if (!this.gate.passes(costOf(this.dataset.info, look, steps))) return;
    const query = { slice_: look.text(steps), field: this.drawn.name };
    await this.loader.run(
      async (signal) => parseNpy(await this.api.array(this.dataset.path, query, { signal })),
      (array) => {
        this.array = array;
        this.values = array.numbers(this.part);
        this.read = { start: look.regions[look.axes[0]].start, step };
        this.figures.show(this.values, statisticsOf(this.values), this.note(look, step));
        this.draw();
      },
    );
  }

  note(look, step) {
    const all = look.extent(look.axes[0]);
    if (step === 1) return `All ${formatCount(all)} values of this region`;
    return `${formatCount(this.values.length)} of ${formatCount(all)} values: one in ${step} is read, so what lies between is not seen; zoom in to see all`;
  }

  draw() {
    if (this.values) this.chart.draw(this.values, { ...this.read, log: this.state.scale === "log" });
  }

  destroy() {
    this.chart?.destroy();
    super.destroy();
  }
}
