// Python literals, as the header of an NPY file has one: dict, list, tuple, text, integer, True, False, None.

/**
 * Read a Python literal.
 * @param {string} text
 * @returns {unknown} tuples and lists are arrays, dicts are Maps
 * @throws {SyntaxError} if it is none
 */
export function parseLiteral(text) {
  const reader = new Reader(text);
  const value = reader.value(0);
  reader.expectEnd();
  return value;
}

const WORDS = new Map([
  ["True", true],
  ["False", false],
  ["None", null],
]);
const ESCAPES = new Map([
  ["n", "\n"],
  ["t", "\t"],
  ["r", "\r"],
  ["\\", "\\"],
  ["'", "'"],
  ['"', '"'],
]);
const MOST_DEPTH = 64;

class Reader {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  /** @param {number} depth @returns {unknown} */
  value(depth) {
    if (depth > MOST_DEPTH) throw this.error();
    const char = this.peek();
    if (char === "[") return this.items("]", depth);
    if (char === "(") return this.items(")", depth);
    if (char === "{") return this.dict(depth);
    if (char === "'" || char === '"') return this.string();
    const word = this.match(/-?\d+|True|False|None/y);
    return WORDS.has(word) ? WORDS.get(word) : Number(word);
  }

  /** @param {string} close @param {number} depth */
  items(close, depth) {
    const items = [];
    this.at += 1;
    while (this.peek() !== close) {
      items.push(this.value(depth + 1));
      if (this.peek() === ",") this.at += 1;
      else if (this.peek() !== close) throw this.error();
    }
    this.at += 1;
    return items;
  }

  /** @param {number} depth */
  dict(depth) {
    const entries = new Map();
    this.at += 1;
    while (this.peek() !== "}") {
      const key = this.string();
      if (this.peek() !== ":") throw this.error();
      this.at += 1;
      entries.set(key, this.value(depth + 1));
      if (this.peek() === ",") this.at += 1;
      else if (this.peek() !== "}") throw this.error();
    }
    this.at += 1;
    return entries;
  }

  string() {
    const raw = this.match(/'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"/y).slice(1, -1);
    return raw.replace(/\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))/gi, (_, x, u, U, char) =>
      char === undefined ? String.fromCodePoint(parseInt(x ?? u ?? U, 16)) : (ESCAPES.get(char) ?? char),
    );
  }

  peek() {
    while (/\s/.test(this.text[this.at] ?? "")) this.at += 1;
    return this.text[this.at];
  }

  /** @param {RegExp} pattern sticky */
  match(pattern) {
    this.peek();
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) throw this.error();
    this.at = pattern.lastIndex;
    return found[0];
  }

  expectEnd() {
    if (this.peek() !== undefined) throw this.error();
  }

  error() {
    return new SyntaxError(`no Python literal at character ${this.at}`);
  }
}
