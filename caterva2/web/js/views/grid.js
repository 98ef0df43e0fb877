// A table of which only what is seen is made and loaded: millions of rows and columns cost as much as a few.

import { Blocks } from "./blocks.js";
import { el, onResize } from "./dom.js";
import { textOf } from "./loader.js";

const ROW = 28;
// Browsers cannot make an element higher than about 16 million pixels.
const MOST_HEIGHT = 8_000_000;
const BLOCK = { rows: 64, columns: 16 };
const MOST_BLOCKS = 96;
const PAUSE = 60;
// Of a column that is cut off.
const LEAST = 80;

/** @typedef {{width: number, header: Node|string, numeric: boolean, sorted?: "ascending"|"descending"|null}} Column */
/**
 * @typedef {object} Options
 * @property {string} label
 * @property {number} rows
 * @property {number} columnCount
 * @property {(column: number) => Column} column
 * @property {(row: number) => string} rowName
 * @property {(rows: [number, number], columns: [number, number], signal: AbortSignal) =>
 *     Promise<(row: number, column: number) => string|undefined>} load
 * @property {(row: number, column: number) => void} onposition where the table is scrolled to
 * @property {boolean} [wholeRows] blocks have all columns, as records do
 */

export class Grid {
  /** @param {Options} options */
  constructor(options) {
    this.options = options;
    this.rows = options.rows;
    this.columnCount = options.columnCount;
    this.blocks = new Blocks(MOST_BLOCKS);
    /** @type {Map<string, AbortController>} */
    this.loading = new Map();
    this.row = 0;
    this.column = 0;
    this.head = el("thead");
    this.tbody = el("tbody");
    this.table = el("table.v-table", { "aria-label": options.label }, this.head, this.tbody);
    this.spacer = el("div.v-spacer", {}, this.table);
    this.scroller = el(
      "div.v-scroller",
      { tabindex: 0, role: "region", "aria-label": `${options.label}, scrollable` },
      this.spacer,
    );
    this.message = el("p.v-error", { role: "alert", hidden: true });
    this.element = el("div.v-grid", {}, this.message, this.scroller);
    this.listen();
    this.stopResizing = onResize(this.scroller, () => this.layout());
  }

  destroy() {
    this.stopResizing();
    clearTimeout(this.timer);
    for (const controller of this.loading.values()) controller.abort();
  }

  /** @param {number} rows there are as many from now on */
  setRows(rows) {
    this.rows = rows;
    this.layout();
  }

  /** Load anew what is seen; until it comes, the old values stay. */
  reload() {
    this.blocks.renew();
    for (const controller of this.loading.values()) controller.abort();
    this.loading.clear();
    this.render();
  }

  /** @param {number} row @param {number} [column] brought to the top left */
  goTo(row, column = this.column) {
    this.row = Math.max(0, Math.min(row, this.rows - this.visibleRows));
    this.column = Math.max(0, Math.min(column, this.lastColumn()));
    this.syncScroll();
    this.render();
  }

  get visibleRows() {
    return Math.max(1, Math.min(this.rows, Math.floor(this.scroller.clientHeight / ROW) - 1));
  }

  get scaled() {
    return this.rows * ROW > MOST_HEIGHT;
  }

  layout() {
    // Whole rows, and room for a scroll bar below them.
    const seen = Math.min(this.rows, Math.max(6, Math.floor((window.innerHeight * 0.62) / ROW)));
    const bar = this.scroller.offsetHeight - this.scroller.clientHeight;
    this.scroller.style.height = `${(seen + 1) * ROW + Math.max(2, bar)}px`;
    this.offsets = [0];
    const limit = Math.min(this.columnCount, 50_000);
    for (let c = 0; c < limit; c += 1) this.offsets.push(this.offsets[c] + this.options.column(c).width);
    this.perColumn = limit < this.columnCount ? this.offsets[limit] / this.columnCount : 0;
    this.spacer.style.height = `${Math.min((this.rows + 1) * ROW, MOST_HEIGHT)}px`;
    this.spacer.style.width = `${this.nameWidth + this.offsets[limit]}px`;
    this.table.style.width = `${this.scroller.clientWidth}px`;
    this.goTo(this.row, this.column);
  }

  get nameWidth() {
    return Math.max(64, 24 + 9 * this.options.rowName(Math.max(0, this.rows - 1)).length);
  }

  syncScroll() {
    const span = this.scroller.scrollHeight - this.scroller.clientHeight;
    const last = this.rows - this.visibleRows;
    this.scroller.scrollTop = last > 0 ? (this.row / last) * span : 0;
    this.scroller.scrollLeft = this.perColumn ? this.column * this.perColumn : this.offsets[this.column];
    this.ignored = { top: this.scroller.scrollTop, left: this.scroller.scrollLeft };
  }

  scrolled() {
    const { scrollTop, scrollLeft, scrollHeight, clientHeight } = this.scroller;
    if (this.ignored && Math.abs(scrollTop - this.ignored.top) < 1 && Math.abs(scrollLeft - this.ignored.left) < 1)
      return;
    this.ignored = null;
    const span = scrollHeight - clientHeight;
    const last = this.rows - this.visibleRows;
    this.row = span > 0 ? Math.round((scrollTop / span) * last) : 0;
    const right = scrollLeft + this.scroller.clientWidth >= this.scroller.scrollWidth - 1;
    this.column = right && scrollLeft ? this.lastColumn() : this.columnAt(scrollLeft);
    this.render();
  }

  columnAt(left) {
    if (this.perColumn) return Math.min(this.columnCount - 1, Math.round(left / this.perColumn));
    let column = 0;
    while (column < this.columnCount - 1 && this.offsets[column + 1] <= left + 8) column += 1;
    return column;
  }

  /** The first column of which on all others fit. */
  lastColumn() {
    let room = this.scroller.clientWidth - this.nameWidth;
    let column = this.columnCount;
    while (column > 0 && room >= this.options.column(column - 1).width)
      room -= this.options.column((column -= 1)).width;
    return Math.min(column, this.columnCount - 1);
  }

  shownColumns() {
    let room = this.scroller.clientWidth - this.nameWidth;
    const shown = [];
    for (let c = this.column; c < this.columnCount; c += 1) {
      const column = { number: c, ...this.options.column(c) };
      room -= column.width;
      // Half a number would be taken for another one; a text ends in dots.
      if (room < 0 && column.numeric && shown.length) break;
      if (room < 0 && shown.length) column.width += room;
      if (column.width >= LEAST || !shown.length) shown.push(column);
      if (room < 0) break;
    }
    return shown;
  }

  render() {
    if (!this.offsets || !this.scroller.clientHeight) return;
    const [last, end] = this.paint();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (last > this.row) this.loadShown([this.row, last], [this.column, end]);
      this.options.onposition(this.row, this.column);
    }, PAUSE);
  }

  /** Make what is seen, of what is there. @returns {[number, number]} the ends of the rows and of the columns */
  paint() {
    const columns = this.shownColumns();
    this.table.setAttribute("aria-rowcount", String(this.rows + 1));
    this.table.setAttribute("aria-colcount", String(this.columnCount + 1));
    this.renderHead(columns);
    const last = Math.min(this.rows, this.row + this.visibleRows);
    const rows = [];
    for (let row = this.row; row < last; row += 1) rows.push(this.rowElement(row, columns));
    this.tbody.replaceChildren(...rows);
    return [last, (columns.at(-1)?.number ?? 0) + 1];
  }

  renderHead(columns) {
    const key = columns.map(({ number, width }) => `${number}:${width}`).join();
    if (this.headKey === key) return;
    this.headKey = key;
    const corner = el("td.v-corner", { "aria-colindex": 1 });
    corner.style.width = `${this.nameWidth}px`;
    const cells = columns.map(({ number, width, header, numeric, sorted }) => {
      const cell = el(
        `th${numeric ? ".v-number" : ""}`,
        { scope: "col", "aria-colindex": number + 2, "aria-sort": sorted ?? null },
        header,
      );
      cell.style.width = `${width}px`;
      return cell;
    });
    this.head.replaceChildren(el("tr", { "aria-rowindex": 1 }, corner, ...cells, el("td.v-rest")));
  }

  rowElement(row, columns) {
    const cells = columns.map(({ number, numeric }) => {
      const text = this.textAt(row, number);
      const tag = `td${numeric ? ".v-number" : ""}${text === undefined ? ".v-waiting" : ""}`;
      return el(tag, { "aria-colindex": number + 2, title: text && text.length > 14 ? text : null }, text ?? "\u00b7");
    });
    return el(
      "tr",
      { "aria-rowindex": row + 2 },
      el("th", { scope: "row", "aria-colindex": 1 }, this.options.rowName(row)),
      ...cells,
      el("td.v-rest"),
    );
  }

  textAt(row, column) {
    return this.blocks.text(this.keyOf(row, column), row, column);
  }

  keyOf(row, column) {
    return `${Math.floor(row / BLOCK.rows)},${this.options.wholeRows ? 0 : Math.floor(column / BLOCK.columns)}`;
  }

  loadShown([firstRow, lastRow], [firstColumn, lastColumn]) {
    const wanted = new Set();
    for (let row = firstRow; row < lastRow + BLOCK.rows; row += BLOCK.rows) {
      for (let column = firstColumn; column < lastColumn + BLOCK.columns; column += BLOCK.columns) {
        wanted.add(this.keyOf(Math.min(row, lastRow - 1), Math.min(column, lastColumn - 1)));
      }
    }
    for (const [key, controller] of this.loading) if (!wanted.has(key)) controller.abort();
    for (const key of wanted) if (!this.blocks.has(key) && !this.loading.has(key)) this.loadBlock(key);
  }

  async loadBlock(key) {
    const [row, column] = key.split(",").map(Number);
    const rows = [row * BLOCK.rows, Math.min(this.rows, (row + 1) * BLOCK.rows)];
    const columns = this.options.wholeRows
      ? [0, this.columnCount]
      : [column * BLOCK.columns, Math.min(this.columnCount, (column + 1) * BLOCK.columns)];
    const controller = new AbortController();
    this.loading.set(key, controller);
    this.scroller.setAttribute("aria-busy", "true");
    try {
      const read = await this.options.load(/** @type {any} */ (rows), /** @type {any} */ (columns), controller.signal);
      if (controller.signal.aborted) return;
      this.say("");
      this.blocks.keep(key, read);
      this.render();
    } catch (error) {
      if (controller.signal.aborted) return;
      this.blocks.fail(key);
      this.say(textOf(error));
      this.paint();
    } finally {
      if (this.loading.get(key) === controller) this.loading.delete(key);
      if (!this.loading.size) this.scroller.removeAttribute("aria-busy");
    }
  }

  say(text) {
    this.message.textContent = text;
    this.message.hidden = !text;
  }

  listen() {
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.scroller.addEventListener(
      "wheel",
      (event) => {
        // One pixel of a scaled table is many rows, so the wheel counts rows itself.
        if (!this.scaled || event.shiftKey || !event.deltaY) return;
        event.preventDefault();
        this.goTo(this.row + Math.sign(event.deltaY) * 3);
      },
      { passive: false },
    );
    this.scroller.addEventListener("keydown", (event) => {
      const steps = {
        ArrowDown: 1,
        ArrowUp: -1,
        PageDown: this.visibleRows,
        PageUp: -this.visibleRows,
        Home: -this.rows,
        End: this.rows,
      };
      const right = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.target !== this.scroller || !(event.key in steps || right)) return;
      event.preventDefault();
      if (right) this.goTo(this.row, this.column + right);
      else this.goTo(this.row + steps[event.key]);
    });
  }
}
