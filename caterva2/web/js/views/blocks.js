// The blocks of a table that were loaded: the latest ones, and those of before a change until the new ones come.

/** @typedef {(row: number, column: number) => string|undefined} Read the text of a cell */

export class Blocks {
  /** @param {number} most how many are kept */
  constructor(most) {
    this.most = most;
    /** @type {Map<string, Read>} */
    this.current = new Map();
    /** @type {Map<string, Read>} */
    this.old = new Map();
    /** @type {Set<string>} */
    this.failed = new Set();
  }

  /** @param {string} key @returns {boolean} whether it need not be loaded */
  has(key) {
    return this.current.has(key);
  }

  /** @returns {string|undefined} undefined while it is not known, "" if it could not be loaded */
  text(key, row, column) {
    if (this.failed.has(key)) return "";
    return (this.current.get(key) ?? this.old.get(key))?.(row, column);
  }

  /** @param {string} key @param {Read} read */
  keep(key, read) {
    this.failed.delete(key);
    this.current.set(key, read);
    if (this.current.size > this.most) this.current.delete(this.current.keys().next().value);
  }

  /** @param {string} key */
  fail(key) {
    this.failed.add(key);
  }

  /** All are to be loaded anew. */
  renew() {
    this.old = this.current;
    this.current = new Map();
  }
}
