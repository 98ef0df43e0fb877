// Two axes of an array, as many values of them as the screen has pixels.

import { parseNpy } from "../npy.js";
import { formatCount } from "../values.js";

/**
 * @typedef {object} Plane
 * @property {number} rows how many were read
 * @property {number} columns
 * @property {number} items values at each place: 1, or the colours of a pixel
 * @property {import("../look.js").Region} rowRegion
 * @property {import("../look.js").Region} columnRegion
 * @property {number} rowStep every which row was read
 * @property {number} columnStep
 * @property {ArrayLike<number>} values row by row
 * @property {(row: number, column: number) => import("../dtypes.js").Value} at the exact value
 * @property {import("../dtypes.js").Dtype} dtype
 */

/**
 * Read a plane.
 * @param {import("./registry.js").Api} api
 * @param {string} path
 * @param {import("../look.js").Look} look with two axes, or three of which the last are colours
 * @param {{width: number, height: number}} pixels
 * @param {{field?: string, part?: "abs"|"phase"|"re"|"im", signal?: AbortSignal}} options
 * @returns {Promise<Plane>}
 */
export async function loadPlane(api, path, look, pixels, { field, part, signal }) {
  const [rowAxis, columnAxis] = look.axes;
  const steps = stepsFor(look, pixels);
  const [rowStep, columnStep] = [steps.get(rowAxis), steps.get(columnAxis)];
  const slice_ = look.text(steps);
  const array = parseNpy(await api.array(path, { slice_, field }, { signal }));
  const [rows, columns] = [count(look.extent(rowAxis), rowStep), count(look.extent(columnAxis), columnStep)];
  const items = array.size / (rows * columns);
  const turned = rowAxis > columnAxis;
  const place = turned ? (row, column) => column * rows + row : (row, column) => row * columns + column;
  return {
    rows,
    columns,
    items,
    rowStep,
    columnStep,
    rowRegion: look.regions[rowAxis],
    columnRegion: look.regions[columnAxis],
    values: turned ? transposed(array.numbers(part), rows, columns, items) : array.numbers(part),
    at: (row, column) => array.at(place(row, column) * items),
    dtype: array.dtype,
  };
}

/**
 * @param {import("../look.js").Look} look
 * @param {{width: number, height: number}} pixels
 * @returns {Map<number, number>} the steps of the two axes
 */
export function stepsFor(look, { width, height }) {
  const [rowAxis, columnAxis] = look.axes;
  return new Map([
    [rowAxis, stepFor(look.extent(rowAxis), height)],
    [columnAxis, stepFor(look.extent(columnAxis), width)],
  ]);
}

/** @param {number} extent @param {number} pixels @returns {number} the step that reads no more than there are pixels */
export function stepFor(extent, pixels) {
  return Math.max(1, Math.ceil(extent / Math.max(1, Math.floor(pixels))));
}

function count(extent, step) {
  return Math.ceil(extent / step);
}

function transposed(values, rows, columns, items) {
  const result = new Float64Array(values.length);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      for (let item = 0; item < items; item += 1) {
        result[(row * columns + column) * items + item] = values[(column * rows + row) * items + item];
      }
    }
  }
  return result;
}

/** @param {Plane} plane @returns {string} what of the region was read, for people */
export function sampling({ rows, columns, rowStep, columnStep, rowRegion, columnRegion }) {
  const [height, width] = [rowRegion, columnRegion].map(({ start, stop }) => formatCount(stop - start));
  const all = `${height} \u00d7 ${width} values`;
  if (rowStep * columnStep === 1) return `All ${all} of this region`;
  return `${formatCount(rows)} \u00d7 ${formatCount(columns)} of ${all}: ${every(rowStep, "row")}, ${every(columnStep, "column")}`;
}

function every(step, what) {
  return step === 1 ? `every ${what}` : `one ${what} in ${step}`;
}
