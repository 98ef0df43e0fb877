// Figures of what is on screen.

/**
 * @typedef {object} Statistics
 * @property {number} count of all values
 * @property {number} finite how many are finite; the figures are of these
 * @property {number} nan
 * @property {number} infinite
 * @property {number} min NaN, as the others, if none is finite
 * @property {number} max
 * @property {number} mean
 * @property {number} std of the population
 * @property {number} smallestPositive for logarithmic scales; NaN if none is positive
 */

/** @param {ArrayLike<number>} values @returns {Statistics} */
export function statisticsOf(values) {
  let [finite, nan, min, max, mean, squares, smallest] = [0, 0, Infinity, -Infinity, 0, 0, Infinity];
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i];
    if (!Number.isFinite(value)) {
      if (Number.isNaN(value)) nan += 1;
      continue;
    }
    finite += 1;
    if (value < min) min = value;
    if (value > max) max = value;
    if (value > 0 && value < smallest) smallest = value;
    // Welford's way: sums of squares would lose all digits of values far from zero.
    const apart = value - mean;
    mean += apart / finite;
    squares += apart * (value - mean);
  }
  const count = values.length;
  const known = finite ? { min, max, mean, std: Math.sqrt(squares / finite) } : NONE;
  const smallestPositive = Number.isFinite(smallest) ? smallest : NaN;
  return { count, finite, nan, infinite: count - finite - nan, smallestPositive, ...known };
}

const NONE = { min: NaN, max: NaN, mean: NaN, std: NaN };

/**
 * Whether values differ only by how they were rounded: drawn as if they were many, that would be mere noise.
 * @param {number} low
 * @param {number} high
 */
export function nearlyEqual(low, high) {
  return !(high - low > 1e-14 * Math.max(Math.abs(low), Math.abs(high)));
}

/**
 * Count values in bins of equal width.
 * @param {ArrayLike<number>} values
 * @param {number} low
 * @param {number} high
 * @param {number} bins
 * @returns {Uint32Array} what lies outside counts nowhere
 */
export function histogram(values, low, high, bins) {
  const counts = new Uint32Array(bins);
  const factor = high > low ? bins / (high - low) : 0;
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i];
    if (value >= low && value <= high) counts[Math.min(bins - 1, Math.floor((value - low) * factor))] += 1;
  }
  return counts;
}

/**
 * The range that holds the middle of the values, so that a few outliers do not hide the rest.
 * @param {ArrayLike<number>} values
 * @param {number} share left out at each end, such as 0.02
 * @returns {{low: number, high: number}} NaN if there is no finite value
 */
export function quantiles(values, share) {
  const step = Math.max(1, Math.floor(values.length / 50000));
  const some = [];
  for (let i = 0; i < values.length; i += step) if (Number.isFinite(values[i])) some.push(values[i]);
  const sorted = Float64Array.from(some).sort();
  const at = (place) => sorted[Math.min(sorted.length - 1, Math.floor(place * sorted.length))] ?? NaN;
  return { low: at(share), high: at(1 - share) };
}

/**
 * Round numbers between two ends.
 * @param {number} low
 * @param {number} high
 * @param {number} most how many fit
 * @returns {number[]}
 */
export function ticks(low, high, most) {
  if (!(high > low) || !Number.isFinite(high - low)) return Number.isFinite(low) ? [low] : [];
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough * 0.999999) ?? power * 10;
  const first = Math.ceil(low / step - 1e-9);
  const found = [];
  for (let n = first; n * step <= high + step * 1e-9 && found.length < 50; n += 1) {
    found.push(Number((n * step).toPrecision(12)));
  }
  return found;
}
