// Numbers as people read them.

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const TIMES = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** @param {number} size in bytes @returns {string} */
export function bytes(size) {
  let [value, unit] = [size, 0];
  while (value >= 1024 && unit < SIZES.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${SIZES[unit]}`;
}

/** @param {number} number @returns {string} */
export function count(number) {
  return number.toLocaleString("en");
}

/** @param {number} time in seconds, roughly @returns {string} */
export function ago(time) {
  const [size, unit] = TIMES.find(([size]) => time >= size) ?? TIMES[3];
  return `${Math.floor(time / size)} ${unit}`;
}

/** @param {number} time in seconds, precisely @returns {string} */
export function seconds(time) {
  return time < 1 ? `${Math.round(1000 * time)} ms` : `${time.toFixed(1)} s`;
}
