// NumPy's dtypes: what they are called, how their values are read from bytes, and how a value is written.

/**
 * @typedef {object} Dtype
 * @property {"b"|"i"|"u"|"f"|"c"|"S"|"U"|"M"|"m"|"V"|"r"} kind NumPy's letter; "r" is a record
 * @property {number} size in bytes
 * @property {boolean} little
 * @property {string} [unit] of times: "ns", "D", "25s"
 * @property {Field[]} [fields] of a record
 */
/**
 * @typedef {object} Field
 * @property {string} name
 * @property {Dtype} dtype
 * @property {number} offset in bytes
 * @property {number[]} shape of a field that is itself an array; else empty
 */
/** @typedef {{re: number, im: number}} Complex */
/** @typedef {number|bigint|boolean|string|Complex|unknown[]} Value times are bigints */

const NAMES = new Map([
  ["bool", "b1"],
  ["str", "U0"],
  ["bytes", "S0"],
  ["void", "V0"],
  ["longdouble", "f16"],
]);
const BITS = /^(int|uint|float|complex)(\d+)$/;
const KINDS = { int: "i", uint: "u", float: "f", complex: "c" };

/**
 * Read a dtype in one of the forms that `GET /api/info` and NPY files have.
 * @param {unknown} form "int64", "<f8", "datetime64[ns]", {names, formats}, or the list of an NPY header
 * @returns {Dtype}
 * @throws {TypeError} if it is none
 */
export function parseDtype(form) {
  if (typeof form === "string") return simple(form);
  if (Array.isArray(form)) return record(form.map(([name, inner, shape]) => [nameOf(name), inner, shape]));
  if (form && typeof form === "object" && "names" in form) return fromNames(/** @type {any} */ (form));
  throw new TypeError("this is no dtype");
}

/** @param {string} text @returns {Dtype} */
function simple(text) {
  const time = /^([<>=|]?)(datetime64|timedelta64|M8|m8)(?:\[(\w+)\])?$/.exec(text);
  if (time) {
    const kind = /^(d|M)/.test(time[2]) ? "M" : "m";
    return { kind, size: 8, little: time[1] !== ">", unit: time[3] ?? "" };
  }
  const bits = BITS.exec(text);
  const short = NAMES.get(text) ?? (bits ? KINDS[bits[1]] + Number(bits[2]) / 8 : text);
  const found = /^([<>=|]?)([biufcSUVa?])(\d*)$/.exec(short);
  if (!found) throw new TypeError(`${text} is no dtype that can be shown`);
  const kind = found[2] === "a" ? "S" : found[2] === "?" ? "b" : found[2];
  const count = Number(found[3] || 1);
  return { kind: /** @type {any} */ (kind), size: kind === "U" ? 4 * count : count, little: found[1] !== ">" };
}

/** @param {{names: string[], formats: unknown[], offsets?: number[], itemsize?: number}} form @returns {Dtype} */
function fromNames(form) {
  const made = record(form.names.map((name, i) => [name, form.formats[i], undefined]));
  form.offsets?.forEach((offset, i) => (made.fields[i].offset = offset));
  return { ...made, size: form.itemsize ?? made.size };
}

/** @param {[string, unknown, number[]|undefined][]} items @returns {Dtype} */
function record(items) {
  const fields = [];
  let offset = 0;
  for (const [name, form, shape] of items) {
    const { dtype, inner } = withShape(form);
    const field = { name, dtype, offset, shape: [...(shape ?? []), ...inner] };
    offset += dtype.size * field.shape.reduce((a, b) => a * b, 1);
    fields.push(field);
  }
  // NPY writes padding as fields without a name.
  return { kind: "r", size: offset, little: true, fields: fields.filter((f) => f.name !== "" || f.dtype.kind !== "V") };
}

/** @param {unknown} form @returns {{dtype: Dtype, inner: number[]}} */
function withShape(form) {
  const array = typeof form === "string" ? /^\(([\d, ]+)\)(.+)$/.exec(form) : null;
  if (!array) return { dtype: parseDtype(form), inner: [] };
  return {
    dtype: parseDtype(array[2]),
    inner: array[1]
      .split(",")
      .filter((n) => n.trim())
      .map(Number),
  };
}

/** @param {unknown} name a title and a name, or a name */
function nameOf(name) {
  return String(Array.isArray(name) ? name[1] : name);
}

/** @param {Dtype} dtype whether it can be drawn: a number, or something that has one */
export function isNumeric(dtype) {
  return "biufc".includes(dtype.kind) && dtype.size <= (dtype.kind === "c" ? 16 : 8);
}

/** @param {Dtype} dtype @returns {string} as NumPy calls it, for people */
export function dtypeName(dtype) {
  const bits = dtype.size * 8;
  switch (dtype.kind) {
    case "b":
      return "bool";
    case "i":
      return `int${bits}`;
    case "u":
      return `uint${bits}`;
    case "f":
      return `float${bits}`;
    case "c":
      return `complex${bits}`;
    case "S":
      return `bytes, ${dtype.size}`;
    case "U":
      return `text, ${dtype.size / 4}`;
    case "M":
      return `datetime64[${dtype.unit}]`;
    case "m":
      return `timedelta64[${dtype.unit}]`;
    case "V":
      return `raw, ${dtype.size}`;
    default:
      return "record";
  }
}

/**
 * Make what reads a value of a dtype.
 * @param {Dtype} dtype
 * @returns {(view: DataView, offset: number) => Value}
 */
export function reader(dtype) {
  const { kind, size, little } = dtype;
  switch (kind) {
    case "b":
      return (view, at) => view.getUint8(at) !== 0;
    case "i":
      return integer(size, little, "Int");
    case "u":
      return integer(size, little, "Uint");
    case "f":
      return float(size, little);
    case "c":
      return complex(size, little);
    case "M":
    case "m":
      return (view, at) => view.getBigInt64(at, little);
    case "S":
      return (view, at) => bytesText(bytesAt(view, at, size));
    case "U":
      return (view, at) => unicode(view, at, size / 4, little);
    case "r":
      return recordReader(dtype);
    default:
      return (view, at) => hex(bytesAt(view, at, size));
  }
}

function integer(size, little, sign) {
  const get = `get${size === 8 ? "Big" : ""}${sign}${size * 8}`;
  return (view, at) => view[get](at, little);
}

function float(size, little) {
  if (size === 8) return (view, at) => view.getFloat64(at, little);
  if (size === 4) return (view, at) => view.getFloat32(at, little);
  if (size === 2) return (view, at) => half(view.getUint16(at, little));
  return (view, at) => hex(bytesAt(view, at, size));
}

function complex(size, little) {
  if (size > 16) return (view, at) => hex(bytesAt(view, at, size));
  const part = float(size / 2, little);
  return (view, at) => ({ re: part(view, at), im: part(view, at + size / 2) });
}

/** @param {Dtype} dtype @returns {(view: DataView, offset: number) => Value[]} */
function recordReader(dtype) {
  const readers = dtype.fields.map(fieldReader);
  return (view, at) => readers.map((read) => read(view, at));
}

/** @param {Field} field @returns {(view: DataView, offset: number) => Value} */
export function fieldReader(field) {
  const read = reader(field.dtype);
  if (!field.shape.length) return (view, at) => read(view, at + field.offset);
  const count = field.shape.reduce((a, b) => a * b, 1);
  return (view, at) => Array.from({ length: count }, (_, i) => read(view, at + field.offset + i * field.dtype.size));
}

/** @param {number} bits of an IEEE 754 half @returns {number} */
export function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

function bytesAt(view, at, size) {
  return new Uint8Array(view.buffer, view.byteOffset + at, size);
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Uint8Array} bytes @returns {string} without the zeros at the end; what is no UTF-8 as \xNN */
function bytesText(bytes) {
  let end = bytes.length;
  while (end && !bytes[end - 1]) end -= 1;
  const text = bytes.subarray(0, end);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(text);
  } catch {
    return Array.from(text, (b) => (b > 31 && b < 127 ? String.fromCharCode(b) : `\\x${hex([b])}`)).join("");
  }
}

function unicode(view, at, count, little) {
  let text = "";
  for (let i = 0; i < count; i += 1) {
    const point = view.getUint32(at + 4 * i, little);
    text += point <= 0x10ffff ? String.fromCodePoint(point) : "\ufffd";
  }
  return text.replace(/\0+$/, "");
}
