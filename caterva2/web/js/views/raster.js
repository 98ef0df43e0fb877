// A picture of a plane with its axes, a cursor, and zooming by mouse, touch and keyboard.

import { ticks } from "../statistics.js";
import { formatShort } from "../values.js";
import { el, svg } from "./dom.js";
import { listenForDrags } from "./gestures.js";
import { LEAST_DRAG, Plot } from "./plot.js";

const BOTTOM = 24;
const TOP = 8;
const RIGHT = 8;

/**
 * @typedef {import("./plot.js").Options & {describe: (row: number, column: number) => string, side?: HTMLElement}} Options
 *   `describe` tells the value of a sample, `side` stands beside the picture
 */

export class Raster extends Plot {
  /** @param {Options} options */
  constructor(options) {
    const canvas = el("canvas.v-pixels", { width: 1, height: 1 });
    const frame = el("div.v-window", {}, canvas);
    const marks = svg("svg.v-marks", { "aria-hidden": "true" });
    const around = (plot) => el("div.v-picture", {}, plot, options.side ?? null);
    super(options, { name: "div.v-plot", role: "zoomable picture", inside: [frame, marks], around });
    this.side = options.side;
    [this.canvas, this.window, this.marks] = [canvas, frame, marks];
    this.describe = options.describe;
    /** @type {import("./plane.js").Plane|null} */
    this.plane = null;
    this.cursor = { row: 0, column: 0 };
    this.listen();
  }

  /** Lay out for a look; what was read before is stretched until the new values come. @param {import("../look.js").Look} look */
  place(look) {
    this.look = look;
    this.width = this.element.clientWidth || 640;
    const [rows, columns] = this.extents();
    this.left = 12 + 7 * Math.max(3, String(look.regions[look.axes[0]].stop).length);
    const room = {
      width: Math.max(120, this.width - this.left - RIGHT - (this.side?.offsetWidth ?? 0)),
      height: roomHeight(this.width),
    };
    const square = rows / columns < 8 && columns / rows < 8;
    const cell = Math.min(room.width / columns, room.height / rows);
    this.size = square
      ? { width: Math.max(columns * cell, 40), height: Math.max(rows * cell, 40) }
      : { width: room.width, height: Math.min(room.height, Math.max(120, rows * 24)) };
    this.plot.style.width = `${this.size.width + this.left + RIGHT}px`;
    this.plot.style.height = `${this.size.height + TOP + BOTTOM}px`;
    this.window.style.left = `${this.left}px`;
    this.readout.style.paddingLeft = `${this.left}px`;
    this.window.style.width = `${this.size.width}px`;
    this.window.style.height = `${this.size.height}px`;
    this.placePixels();
    this.mark();
  }

  /** @returns {{width: number, height: number}} the pixels of the screen that the plane fills */
  get pixels() {
    const density = Math.min(window.devicePixelRatio || 1, 2);
    return { width: this.size.width * density, height: this.size.height * density };
  }

  /** Draw what was read. @param {import("./plane.js").Plane} plane @param {Uint8ClampedArray} pixels RGBA */
  paint(plane, pixels) {
    this.plane = plane;
    this.canvas.width = plane.columns;
    this.canvas.height = plane.rows;
    const image = new ImageData(/** @type {any} */ (pixels), plane.columns, plane.rows);
    this.canvas.getContext("2d").putImageData(image, 0, 0);
    this.cursor = {
      row: Math.min(this.cursor.row, plane.rows - 1),
      column: Math.min(this.cursor.column, plane.columns - 1),
    };
    this.placePixels();
    this.mark();
    if (this.pointed) this.point(this.cursor);
  }

  placePixels() {
    if (!this.plane) return;
    const { rows, columns, rowStep, columnStep, rowRegion, columnRegion } = this.plane;
    const [x, y] = [this.xOf(columnRegion.start), this.yOf(rowRegion.start)];
    Object.assign(this.canvas.style, {
      left: `${x}px`,
      top: `${y}px`,
      width: `${this.xOf(columnRegion.start + columns * columnStep) - x}px`,
      height: `${this.yOf(rowRegion.start + rows * rowStep) - y}px`,
    });
  }

  extents() {
    return [this.look.extent(this.look.axes[0]), this.look.extent(this.look.axes[1])];
  }

  xOf(column) {
    return ((column - this.look.regions[this.look.axes[1]].start) / this.extents()[1]) * this.size.width;
  }

  yOf(row) {
    return ((row - this.look.regions[this.look.axes[0]].start) / this.extents()[0]) * this.size.height;
  }

  mark() {
    const [rows, columns] = this.look.axes.map((axis) => this.look.regions[axis]);
    const { width, height } = this.size;
    const whole = (low, high, most) => ticks(low, high - 1, most).filter(Number.isInteger);
    const across = whole(columns.start, columns.stop, Math.max(2, width / 70)).map((n) =>
      svg(
        "text",
        { x: this.left + this.xOf(n + 0.5), y: TOP + height + 16, "text-anchor": "middle" },
        formatShort(n, 9),
      ),
    );
    const down = whole(rows.start, rows.stop, Math.max(2, height / 40)).map((n) =>
      svg("text", { x: this.left - 6, y: TOP + this.yOf(n + 0.5) + 4, "text-anchor": "end" }, formatShort(n, 9)),
    );
    this.spot = svg("rect.v-spot", { hidden: true, width: 0, height: 0 });
    this.band = svg("rect.v-band", { width: 0, height: 0 });
    this.marks.replaceChildren(...across, ...down, this.spot, this.band);
  }

  /** Point at a sample. @param {{row: number, column: number}} sample */
  point({ row, column }) {
    if (!this.plane) return;
    const { rows, columns, rowStep, columnStep, rowRegion, columnRegion } = this.plane;
    this.pointed = true;
    this.cursor = { row: clamp(row, rows - 1), column: clamp(column, columns - 1) };
    const [r, c] = [rowRegion.start + this.cursor.row * rowStep, columnRegion.start + this.cursor.column * columnStep];
    this.readout.textContent = `[${this.indexText(r, c)}] = ${this.describe(this.cursor.row, this.cursor.column)}`;
    setBox(
      this.spot,
      this.left + this.xOf(c),
      TOP + this.yOf(r),
      this.left + this.xOf(c + columnStep),
      TOP + this.yOf(r + rowStep),
    );
  }

  indexText(row, column) {
    const [rowAxis, columnAxis] = this.look.axes;
    return this.look.regions
      .map(({ start, stop }, axis) =>
        axis === rowAxis ? row : axis === columnAxis ? column : stop - start > 1 ? ":" : start,
      )
      .join(", ");
  }

  /** Zoom about the middle, or a place in the plot. @param {number} factor below 1 shows less */
  zoom(factor, x = this.size.width / 2, y = this.size.height / 2) {
    const places = [y / this.size.height, x / this.size.width];
    let look = this.look;
    this.look.axes.slice(0, 2).forEach((axis, i) => {
      const { start, stop } = this.look.regions[axis];
      const length = Math.max(1, (stop - start) * factor);
      const from = start + (stop - start - length) * places[i];
      look = look.withRegion(axis, { start: from, stop: from + length });
    });
    this.go(look);
  }

  /** Move by a share of what is seen. @param {number} down @param {number} right */
  pan(down, right) {
    const [rows, columns] = this.look.axes;
    this.go(this.moved(this.moved(this.look, rows, down), columns, right));
  }

  listen() {
    const at = (event) => {
      const box = this.plot.getBoundingClientRect();
      const x = Math.max(0, Math.min(event.clientX - box.left - this.left, this.size.width));
      return { x, y: Math.max(0, Math.min(event.clientY - box.top - TOP, this.size.height)) };
    };
    const plot = this.plot;
    listenForDrags(plot, {
      at,
      moved: ({ x, y }, from) => {
        this.readout.setAttribute("aria-live", "off");
        this.pointAt(x, y);
        if (from) setBox(this.band, this.left + from.x, TOP + from.y, this.left + x, TOP + y);
      },
      done: (from, to) => {
        if (Math.hypot(to.x - from.x, to.y - from.y) < LEAST_DRAG) this.pointAt(to.x, to.y);
        else this.zoomTo(from, to);
      },
      ended: () => setBox(this.band, 0, 0, 0, 0),
    });
    plot.addEventListener(
      "wheel",
      (event) => {
        // The page scrolls, unless it is clear that the picture is meant.
        if (!event.ctrlKey && document.activeElement !== plot) return;
        event.preventDefault();
        const { x, y } = at(event);
        this.zoom(event.deltaY > 0 ? 1.25 : 0.8, x, y);
      },
      { passive: false },
    );
  }

  pointAt(x, y) {
    if (!this.plane) return;
    const { rowRegion, columnRegion, rowStep, columnStep } = this.plane;
    const [rows, columns] = this.extents();
    const regions = this.look.axes.map((axis) => this.look.regions[axis]);
    const row = regions[0].start + (y / this.size.height) * rows;
    const column = regions[1].start + (x / this.size.width) * columns;
    this.point({
      row: Math.floor((row - rowRegion.start) / rowStep),
      column: Math.floor((column - columnRegion.start) / columnStep),
    });
  }

  zoomTo(one, other) {
    const [rows, columns] = this.extents();
    const [rowAxis, columnAxis] = this.look.axes;
    const span = (a, b, axis, length, extent) => {
      const { start } = this.look.regions[axis];
      const low = start + Math.floor((Math.min(a, b) / length) * extent);
      return { start: low, stop: Math.max(low + 1, start + Math.ceil((Math.max(a, b) / length) * extent)) };
    };
    this.go(
      this.look
        .withRegion(rowAxis, span(one.y, other.y, rowAxis, this.size.height, rows))
        .withRegion(columnAxis, span(one.x, other.x, columnAxis, this.size.width, columns)),
    );
  }

  key(key, shift) {
    const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[key] ?? [
      0, 0,
    ];
    if ((down || right) && shift) this.pan(down / 4, right / 4);
    else if (down || right) {
      this.readout.setAttribute("aria-live", "polite");
      this.point({ row: this.cursor.row + down, column: this.cursor.column + right });
    } else return this.zoomKey(key);
    return true;
  }
}

function roomHeight(width) {
  return Math.max(200, Math.min(window.innerHeight * 0.62, width * 0.8, 1400));
}

function clamp(n, last) {
  return Math.max(0, Math.min(n, last));
}

function setBox(rect, x0, y0, x1, y1) {
  rect.removeAttribute("hidden");
  const sides = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
  for (const [name, value] of Object.entries(sides)) rect.setAttribute(name, String(value));
}
