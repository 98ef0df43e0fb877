// What of an array is looked at: which axes are drawn, the region on them, and the position on the others.
// It is a NumPy slice, so it stands in the URL as one: "3, 0:100, :".

/** @typedef {{start: number, stop: number}} Region */

export class Look {
  /**
   * @param {number[]} shape
   * @param {number[]} axes the drawn ones, rows first
   * @param {Region[]} regions of every axis; those that are not drawn have one item
   */
  constructor(shape, axes, regions) {
    this.shape = shape;
    this.axes = axes;
    this.regions = regions;
  }

  /**
   * Read a look from a URL; what does not fit the shape, which may have changed, is as if it were not there.
   * @param {number[]} shape
   * @param {number} wanted how many axes are drawn
   * @param {{slice?: string, axes?: string}} state
   * @returns {Look}
   */
  static of(shape, wanted, state) {
    const parts = partsOf(state.slice ?? "", shape);
    const axes = axesOf(state.axes, shape.length, wanted) ?? defaultAxes(parts, shape.length, wanted);
    const regions = shape.map((extent, axis) => {
      const part = parts[axis];
      if (axes.includes(axis)) return part?.ranged ? part.region : { start: 0, stop: extent };
      const at = Math.max(0, Math.min(part?.region.start ?? 0, extent - 1));
      return { start: at, stop: at + 1 };
    });
    return new Look(shape, axes, regions);
  }

  /** @returns {{slice: string|undefined, axes: string|undefined}} for the URL; undefined for what nobody chose */
  toState() {
    const usual = defaultAxes(partsOf(this.text(), this.shape), this.shape.length, this.axes.length);
    const plain = this.shape.map((_, axis) => (this.shown(axis) ? ":" : "0")).join(", ");
    const first = defaultAxes([], this.shape.length, this.axes.length);
    const slice = this.text();
    const standard = slice === plain && first.every((axis) => this.shown(axis));
    return {
      slice: standard ? undefined : slice,
      axes: usual.join() === this.axes.join() ? undefined : this.axes.join(),
    };
  }

  /** @param {number} axis @returns {boolean} */
  shown(axis) {
    return this.axes.includes(axis);
  }

  /**
   * The slice as text.
   * @param {Map<number, number>} [steps] by axis; 1 where there is none
   * @returns {string}
   */
  text(steps = new Map()) {
    return this.regions.map((region, axis) => this.part(axis, region, steps.get(axis) ?? 1)).join(", ");
  }

  part(axis, { start, stop }, step) {
    if (!this.shown(axis)) return String(start);
    const whole = start === 0 && stop === this.shape[axis];
    return (whole ? ":" : `${start}:${stop}`) + (step > 1 ? `:${step}` : "");
  }

  /** @param {number} axis @param {Region} region @returns {Look} with another region, kept inside the array */
  withRegion(axis, region) {
    const extent = this.shape[axis];
    const length = Math.max(1, Math.min(Math.round(region.stop) - Math.round(region.start), extent));
    const start = Math.max(0, Math.min(Math.round(region.start), extent - length));
    return this.replaced(axis, { start, stop: Math.min(start + length, extent) });
  }

  /** @param {number} axis @param {number} at @returns {Look} */
  withPosition(axis, at) {
    const start = Math.max(0, Math.min(Math.round(at), this.shape[axis] - 1));
    return this.replaced(axis, { start, stop: start + 1 });
  }

  /**
   * @param {number} place 0 for the rows
   * @param {number} axis drawn there from now on; if it is drawn already, the two change places
   * @returns {Look}
   */
  withAxis(place, axis) {
    const axes = [...this.axes];
    const other = axes.indexOf(axis);
    const gone = axes[place];
    if (other >= 0) axes[other] = gone;
    axes[place] = axis;
    const regions = this.regions.map((region, i) => {
      if (other < 0 && i === axis) return { start: 0, stop: this.shape[i] };
      if (other < 0 && i === gone) return { start: 0, stop: Math.min(1, this.shape[i]) };
      return region;
    });
    return new Look(this.shape, axes, regions);
  }

  /** @returns {Look} all of the drawn axes */
  whole() {
    const regions = this.regions.map((region, i) => (this.shown(i) ? { start: 0, stop: this.shape[i] } : region));
    return new Look(this.shape, this.axes, regions);
  }

  /** @returns {boolean} */
  get isWhole() {
    return this.axes.every((axis) => this.extent(axis) === this.shape[axis]);
  }

  /** @param {number} axis @returns {number} the length of its region */
  extent(axis) {
    return this.regions[axis].stop - this.regions[axis].start;
  }

  replaced(axis, region) {
    return new Look(
      this.shape,
      this.axes,
      this.regions.map((old, i) => (i === axis ? region : old)),
    );
  }
}

function partsOf(text, shape) {
  const tokens = text.split(",").map((token) => token.trim());
  return shape.map((extent, axis) => {
    const token = tokens[axis] ?? "";
    if (/^-?\d+$/.test(token)) {
      const at = Number(token) < 0 ? Number(token) + extent : Number(token);
      return { ranged: false, region: { start: at, stop: at + 1 } };
    }
    const found = /^(\d*):(\d*)$/.exec(token);
    const start = found?.[1] ? Number(found[1]) : 0;
    const stop = found?.[2] ? Math.min(Number(found[2]), extent) : extent;
    return found && start < stop ? { ranged: true, region: { start, stop } } : null;
  });
}

function axesOf(text, ndim, wanted) {
  if (!text) return null;
  const axes = text.split(",").map(Number);
  const good = axes.length === wanted && new Set(axes).size === wanted;
  return good && axes.every((axis) => Number.isInteger(axis) && axis >= 0 && axis < ndim) ? axes : null;
}

/** The last axes, but rather those that the slice leaves. */
function defaultAxes(parts, ndim, wanted) {
  const all = Array.from({ length: ndim }, (_, axis) => axis);
  const free = all.filter((axis) => parts[axis]?.ranged);
  const last = all.filter((axis) => !free.includes(axis)).reverse();
  const chosen = free.length >= wanted ? free.slice(-wanted) : [...free, ...last.slice(0, wanted - free.length)];
  return chosen.sort((a, b) => a - b);
}
