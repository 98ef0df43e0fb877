// NPY files (NumPy's NEP 1), which is how arrays reach the browser.

import { fieldReader, parseDtype, reader } from "./dtypes.js";
import { parseLiteral } from "./literal.js";

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const TYPED = {
  i1: Int8Array,
  i2: Int16Array,
  i4: Int32Array,
  i8: BigInt64Array,
  u1: Uint8Array,
  u2: Uint16Array,
  u4: Uint32Array,
  u8: BigUint64Array,
  f4: Float32Array,
  f8: Float64Array,
  b1: Uint8Array,
};
const PARTS = {
  re: (re) => re,
  im: (_re, im) => im,
  abs: (re, im) => Math.hypot(re, im),
  phase: (re, im) => Math.atan2(im, re),
};
/** @typedef {keyof typeof PARTS} Part of complex numbers */

const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Bytes that are no NPY file, or one that this cannot read. */
export class NpyError extends Error {}

/** An array: its shape, its dtype, and its values by their number in C order. */
export class NdArray {
  /**
   * @param {number[]} shape
   * @param {import("./dtypes.js").Dtype} dtype
   * @param {ArrayBuffer} buffer
   * @param {number} offset of the first value in it
   */
  constructor(shape, dtype, buffer, offset) {
    this.shape = shape;
    this.dtype = dtype;
    this.size = shape.reduce((a, b) => a * b, 1);
    this.buffer = buffer;
    this.offset = offset;
    this.view = new DataView(buffer, offset);
    this.read = reader(dtype);
  }

  /** @param {number} i @returns {import("./dtypes.js").Value} the value, exact */
  at(i) {
    return this.read(this.view, i * this.dtype.size);
  }

  /**
   * The values as numbers that can be drawn: a view of the bytes where there is one, else a copy. What is above 2^53 is
   * rounded; `at` is exact.
   * @param {Part} [part] of complex numbers
   * @returns {ArrayLike<number>}
   */
  numbers(part = "abs") {
    const { kind, size, little } = this.dtype;
    if (kind === "c") return this.parts(PARTS[part] ?? PARTS.abs);
    const typed = TYPED[kind + size];
    if (!typed || little !== LITTLE || this.offset % size) return this.copied();
    const values = new typed(this.buffer, this.offset, this.size);
    return size === 8 && kind !== "f" ? Float64Array.from(values, Number) : values;
  }

  copied() {
    const values = new Float64Array(this.size);
    for (let i = 0; i < values.length; i += 1) values[i] = Number(this.at(i));
    return values;
  }

  /** @param {(re: number, im: number) => number} part */
  parts(part) {
    const values = new Float64Array(this.size);
    for (let i = 0; i < values.length; i += 1) {
      const { re, im } = /** @type {import("./dtypes.js").Complex} */ (this.at(i));
      values[i] = part(re, im);
    }
    return values;
  }

  /**
   * Read a field of a record.
   * @param {string} name
   * @returns {(i: number) => import("./dtypes.js").Value} by the record's number
   */
  field(name) {
    const read = fieldReader(this.dtype.fields.find((field) => field.name === name));
    return (i) => read(this.view, i * this.dtype.size);
  }
}

/**
 * Read an NPY file.
 * @param {ArrayBuffer} buffer
 * @returns {NdArray}
 * @throws {NpyError}
 */
export function parseNpy(buffer) {
  const { text, offset } = headerOf(buffer);
  const header = parsed(text);
  const [descr, shape] = [header.get("descr"), header.get("shape")];
  if (!Array.isArray(shape) || descr === undefined) throw new NpyError("the NPY header lacks the shape or the dtype");
  if (header.get("fortran_order") && shape.length > 1) throw new NpyError("the NPY file is in Fortran order");
  let dtype;
  try {
    dtype = parseDtype(descr);
  } catch (error) {
    throw new NpyError(`the NPY file has a dtype that cannot be shown: ${error.message}`);
  }
  const wanted = shape.reduce((a, b) => a * b, 1) * dtype.size;
  if (buffer.byteLength - offset < wanted) throw new NpyError("the NPY file ends too early");
  return new NdArray(shape, dtype, buffer, offset);
}

function headerOf(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 10 || MAGIC.some((byte, i) => bytes[i] !== byte)) throw new NpyError("this is no NPY file");
  const view = new DataView(buffer);
  const wide = bytes[6] > 1;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = wide ? 12 : 10;
  if (start + length > bytes.length) throw new NpyError("the NPY file ends in its header");
  const decoder = new TextDecoder(bytes[6] > 2 ? "utf-8" : "latin1");
  return { text: decoder.decode(bytes.subarray(start, start + length)), offset: start + length };
}

function parsed(text) {
  try {
    const header = parseLiteral(text.trim());
    if (header instanceof Map) return header;
  } catch {
    // said below
  }
  throw new NpyError("the NPY header cannot be read");
}
