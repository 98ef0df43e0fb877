// Perceptual colour maps: 33 stops of each, with straight lines between them (off by at most two steps of 255).
// viridis and magma: N. Smith, S. van der Walt, CC0; cividis: Nuñez, Anderton, Renslow, made for colour-blind readers.

const STOPS = {
  viridis:
    "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e26828e23898e21918c" +
    "1f988b1fa08822a78528ae8032b67a3fbc734ec36b5ec96270cf5784d44b98d83eaddc30c2df23d8e219ece51bfde725",
  magma:
    "0000040303120a0822130d341d114729115a36106b440f7651127c5d177f6a1c81762181832681902a819c2e7faa337db73779" +
    "c43c75d0416fdc4869e75263ef5d5ef56b5cf9795dfc8961fd9869fea772feb67cfec488fed395fde2a3fcf0b2fcfdbf",
  cividis:
    "00224e00285b002e6a0533711a386f273e6e32436d3b496c434e6c4b546c535a6d5a5f6e61656f686a716f70737676767d7c78" +
    "8482798c8878938e789b9476a39a74aba072b4a76fbcae6cc4b468cdbb63d5c25edec958e7d150f0d846f9e03afee838",
  grey: "000000ffffff",
};

/** The names, in the order in which they are offered. */
export const COLORMAPS = Object.freeze(Object.keys(STOPS));

// ABGR, as a little-endian Uint32 of ImageData. What is no number is see-through: the page's pattern shows.
const CLEAR = 0;

/**
 * The 256 colours of a map.
 * @param {string} name one of COLORMAPS; another one is viridis
 * @returns {Uint32Array} as ImageData has them
 */
export function palette(name) {
  const text = COLORMAPS.includes(name) ? STOPS[name] : STOPS.viridis;
  const stops = text.match(/../g).map((byte) => parseInt(byte, 16));
  const last = stops.length / 3 - 1;
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * last;
    const low = Math.min(Math.floor(place), last - 1);
    const channel = (c) =>
      Math.round(stops[3 * low + c] + (place - low) * (stops[3 * low + 3 + c] - stops[3 * low + c]));
    return ((255 << 24) | (channel(2) << 16) | (channel(1) << 8) | channel(0)) >>> 0;
  });
}

/**
 * Colour values.
 * @param {ArrayLike<number>} values
 * @param {Uint32Array} pixels as many, filled by this
 * @param {Uint32Array} colours
 * @param {{low: number, high: number, log: boolean}} scale
 */
export function colour(values, pixels, colours, { low, high, log }) {
  const map = log ? Math.log10 : (x) => x;
  const [bottom, top] = [map(low), map(high)];
  const factor = top > bottom ? 255 / (top - bottom) : 0;
  for (let i = 0; i < values.length; i += 1) {
    const value = log ? Math.log10(values[i]) : values[i];
    // 128 in a constant array, so that it is not taken for the lowest.
    const place = factor ? (value - bottom) * factor : 128;
    pixels[i] = value !== value ? CLEAR : colours[place < 0 ? 0 : place > 255 ? 255 : Math.round(place)];
  }
}
