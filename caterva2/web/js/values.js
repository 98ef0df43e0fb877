// How values are written for people: exact where that is short, never longer than it helps.

const UNITS = { W: 604800, D: 86400, h: 3600, m: 60, s: 1 };
const FRACTIONS = { s: 0, ms: 3, us: 6, ns: 9, ps: 12, fs: 15, as: 18 };
const NAT = -(2n ** 63n);

/**
 * Write a value.
 * @param {import("./dtypes.js").Value} value
 * @param {import("./dtypes.js").Dtype} dtype
 * @returns {string}
 */
export function formatValue(value, dtype) {
  if (Array.isArray(value)) return arrayText(value, dtype);
  switch (dtype.kind) {
    case "f":
      return typeof value === "number" ? formatFloat(value, dtype.size) : `0x${value}`;
    case "c":
      return typeof value === "object" ? complexText(value, dtype.size / 2) : `0x${value}`;
    case "b":
      return value ? "True" : "False";
    case "M":
      return datetime(/** @type {bigint} */ (value), dtype.unit);
    case "m":
      return value === NAT ? "NaT" : `${value} ${dtype.unit || "units"}`;
    case "V":
      return `0x${value}`;
    default:
      return String(value);
  }
}

function arrayText(values, dtype) {
  if (dtype.kind !== "r") return `[${values.map((value) => formatValue(value, dtype)).join(", ")}]`;
  if (!dtype.fields.some((_, i) => values[i] !== undefined)) return "";
  return `(${dtype.fields.map((field, i) => formatValue(values[i], field.dtype)).join(", ")})`;
}

/**
 * Write a floating-point number with the digits that tell it from its neighbours, and no more.
 * @param {number} value
 * @param {number} size of its dtype in bytes
 * @returns {string}
 */
export function formatFloat(value, size = 8) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (size === 8) return tidy(value);
  for (let digits = size === 2 ? 3 : 6; digits < 10; digits += 1) {
    const short = Number(value.toPrecision(digits));
    if (size === 2 ? digits >= 5 || short === value : Math.fround(short) === value) return tidy(short);
  }
  return tidy(value);
}

function tidy(value) {
  const text = Object.is(value, -0) ? "-0" : String(value);
  return Number.isInteger(value) && Math.abs(value) < 1e15 ? `${text}.0` : text;
}

/** @param {number} value @param {number} digits @returns {string} a figure of a summary or an axis */
export function formatShort(value, digits = 5) {
  if (!Number.isFinite(value)) return formatFloat(value);
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e7) return String(value).replace("-", "\u2212");
  const text =
    size && (size < 1e-4 || size >= 1e7)
      ? value.toExponential(digits - 1)
      : value.toPrecision(Math.max(digits, wholes(size)));
  return text
    .replace(/(\.\d*?)0+(?=e|$)/, "$1")
    .replace(/\.(?=e|$)/, "")
    .replace(/-/g, "\u2212");
}

function wholes(size) {
  return size < 1 ? 1 : Math.floor(Math.log10(size)) + 1;
}

function complexText({ re, im }, size) {
  const sign = im < 0 || Object.is(im, -0) ? "-" : "+";
  return `${formatFloat(re, size)}${sign}${formatFloat(Math.abs(im), size)}j`;
}

/** @param {bigint} value @param {string} [unit] @returns {string} ISO 8601, as exact as the unit */
function datetime(value, unit = "") {
  if (value === NAT) return "NaT";
  const [, times, name] = /^(\d*)(\w*)$/.exec(unit) ?? [];
  const count = value * BigInt(times || 1);
  if (name === "Y") return `${1970n + count}`;
  if (name === "M") return months(count);
  if (name in UNITS) return iso(count * BigInt(UNITS[name]), "", name === "D" || name === "W");
  const digits = FRACTIONS[name];
  if (digits === undefined) return `${value} ${unit}`;
  const scale = 10n ** BigInt(digits);
  const fraction = ((count % scale) + scale) % scale;
  return iso((count - fraction) / scale, `.${String(fraction).padStart(digits, "0")}`, false);
}

function months(count) {
  const month = ((count % 12n) + 12n) % 12n;
  return `${1970n + (count - month) / 12n}-${String(month + 1n).padStart(2, "0")}`;
}

function iso(seconds, fraction, dateOnly) {
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return `${seconds}${fraction} s since 1970`;
  const text = date.toISOString().replace(/\.\d+Z$/, "");
  return dateOnly ? text.slice(0, text.indexOf("T")) : text + fraction;
}

/** @param {number} count @returns {string} with its thousands apart, so that it can be read */
export function formatCount(count) {
  return count.toLocaleString("en").replaceAll(",", "\u2009");
}

/** @param {number} nbytes @returns {string} */
export function formatBytes(nbytes) {
  if (nbytes < 1024) return `${nbytes} B`;
  const power = Math.min(Math.floor(Math.log2(nbytes) / 10), 5);
  return `${(nbytes / 1024 ** power).toPrecision(3)} ${["", "KiB", "MiB", "GiB", "TiB", "PiB"][power]}`;
}
