// Statistics and histogram of what is shown.

import { histogram, nearlyEqual, ticks } from "../statistics.js";
import { formatCount, formatShort } from "../values.js";
import { el, svg } from "./dom.js";

const BINS = 64;
const WIDTH = 320;
const HEIGHT = 90;

/** The panel below a picture or a plot. */
export class Figures {
  constructor() {
    this.note = el("p.v-muted");
    this.list = el("dl.v-figures");
    this.chart = el("div.v-histogram");
    const heading = el("p.v-heading", {}, "Statistics of what is shown");
    this.element = el(
      "section.v-panel",
      { "aria-label": "Statistics", hidden: true },
      heading,
      this.note,
      this.list,
      this.chart,
    );
  }

  /**
   * @param {ArrayLike<number>} values
   * @param {import("../statistics.js").Statistics} figures
   * @param {string} note which values these are
   */
  show(values, figures, note) {
    this.element.hidden = false;
    this.note.textContent = figures.finite ? `${note}.` : `${note}. None of them is finite.`;
    const rows = [
      ...(figures.finite ? known(figures) : []),
      ["Values", formatCount(figures.count)],
      ["NaN", figures.nan && formatCount(figures.nan)],
      ["Infinite", figures.infinite && formatCount(figures.infinite)],
    ];
    this.list.replaceChildren(
      ...rows.filter(([, text]) => text).map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))),
    );
    this.chart.replaceChildren(...(figures.finite ? [chart(values, figures)] : []));
  }
}

function known({ min, max, mean, std }) {
  return [
    ["Minimum", formatShort(min, 6)],
    ["Maximum", formatShort(max, 6)],
    ["Mean", formatShort(mean, 6)],
    ["Standard deviation", formatShort(std, 6)],
  ];
}

function chart(values, { min, max, finite }) {
  const constant = nearlyEqual(min, max);
  const [low, high] = constant ? [min - 0.5, max + 0.5] : [min, max];
  const counts = histogram(values, low, high, BINS);
  const most = Math.max(...counts, 1);
  const bars = Array.from(counts, (count, i) => {
    const height = count && Math.max(1, (count / most) * HEIGHT);
    return svg(
      "rect",
      { x: (i * WIDTH) / BINS, y: HEIGHT - height, width: WIDTH / BINS - 0.5, height },
      svg(
        "title",
        {},
        `${formatShort(low + ((high - low) * i) / BINS)} to ${formatShort(low + ((high - low) * (i + 1)) / BINS)}: ${count}`,
      ),
    );
  });
  const labels = ticks(low, high, 4).map((tick) => {
    const place = (tick - low) / (high - low);
    const anchor = place < 0.06 ? "start" : place > 0.94 ? "end" : "middle";
    return svg("text", { x: place * WIDTH, y: HEIGHT + 15, "text-anchor": anchor }, formatShort(tick));
  });
  const label = `Histogram of ${finite} values between ${formatShort(min)} and ${formatShort(max)}`;
  const base = svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT });
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT + 20}`, role: "img", "aria-label": label },
    ...bars,
    base,
    ...labels,
  );
}
