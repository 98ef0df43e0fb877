// Structured arrays of one axis: a row for each record, with a choice of columns, a condition, and an order.

import { dtypeName, isNumeric, parseDtype } from "../dtypes.js";
import { parseNpy } from "../npy.js";
import { formatCount, formatValue } from "../values.js";
import { ArrayView } from "./arrayview.js";
import { el, menu, newId } from "./dom.js";
import { Grid } from "./grid.js";

// Rows of a condition are found as the table is scrolled: so many more are assumed until the end is seen.
const MORE = 64;
const MOST_SINGLE = 6;

/** @param {any} info of GET /api/info */
export function canView(info) {
  return (
    Array.isArray(info.shape) && info.shape.length === 1 && Array.isArray(info.dtype?.names) && !info.shape.includes(0)
  );
}

export class RecordsView extends ArrayView {
  static title = "Table";

  build() {
    this.dtype = parseDtype(this.dataset.info.dtype);
    this.count = el("p.v-muted", { role: "status" });
    this.controls.append(this.filterForm(), this.columnChoice());
    this.buildGrid();
  }

  /** @override */
  get selection() {
    return { filter: this.state.filter, sortby: this.state.sortby };
  }

  get fields() {
    const chosen = this.state.columns?.split(",");
    const fields = this.dtype.fields.filter(({ name }) => chosen?.includes(encodeURIComponent(name)));
    return fields.length ? fields : this.dtype.fields;
  }

  filterForm() {
    const id = newId("filter");
    const input = el("input.v-wide", {
      id,
      type: "search",
      value: this.state.filter ?? "",
      placeholder: this.exampleFilter(),
      autocomplete: "off",
      spellcheck: "false",
    });
    const apply = () => {
      const filter = input.value.trim() || undefined;
      if (filter !== this.state.filter) this.change({ filter, row: undefined }, () => this.buildGrid());
    };
    input.addEventListener("search", apply);
    const submit = (event) => {
      event.preventDefault();
      apply();
    };
    return el(
      "form.v-field",
      { role: "search", "aria-label": "Rows", onsubmit: submit },
      el("label", { for: id }, "Rows where"),
      input,
      el("button.v-button", { type: "submit" }, "Show"),
    );
  }

  exampleFilter() {
    const field = this.dtype.fields.find(({ dtype, shape }) => isNumeric(dtype) && !shape.length && dtype.kind !== "b");
    return field ? `${field.name} > 10` : "";
  }

  columnChoice() {
    const boxes = this.dtype.fields.map(({ name, dtype }) => {
      const box = el("input", {
        type: "checkbox",
        value: name,
        checked: this.fields.some((field) => field.name === name),
      });
      return { box, label: el("label.v-check", {}, box, ` ${name} `, el("span.v-muted", {}, dtypeName(dtype))) };
    });
    const chosen = () => {
      const names = boxes.filter(({ box }) => box.checked).map(({ box }) => box.value);
      const all = !names.length || names.length === boxes.length;
      this.change({ columns: all ? undefined : names.map(encodeURIComponent).join(",") }, () => this.buildGrid());
    };
    for (const { box } of boxes) box.addEventListener("change", chosen);
    return menu(
      "Columns",
      boxes.map(({ label }) => label),
    );
  }

  buildGrid() {
    this.grid?.destroy();
    const total = this.dataset.info.shape[0];
    this.known = !this.state.filter;
    this.end = 0;
    const fields = this.fields;
    this.grid = new Grid({
      label: `Records of ${this.dataset.path}`,
      rows: this.known ? total : Math.min(total, MORE),
      columnCount: fields.length,
      column: (column) => this.column(fields[column]),
      rowName: String,
      load: (rows, _columns, signal) => this.load(fields, rows, signal),
      onposition: (row) => this.positioned(row),
      wholeRows: true,
    });
    this.say();
    this.body.replaceChildren(this.count, this.grid.element);
    this.grid.row = Math.max(0, Number(this.state.row) || 0);
    this.grid.layout();
  }

  /** @param {import("../dtypes.js").Field} field @returns {import("./grid.js").Column} */
  column({ name, dtype, shape }) {
    /** @type {"ascending"|"descending"|null} */
    const sorted = this.state.sortby === name ? (this.state.order === "descending" ? "descending" : "ascending") : null;
    const [title, next] = this.nextOrder(name, sorted);
    const sort = () => this.change({ ...next, row: undefined }, () => this.buildGrid());
    const sortable = !shape.length && dtype.kind !== "r";
    const mark = el(
      "span",
      { "aria-hidden": "true" },
      { ascending: "\u00a0\u2191", descending: "\u00a0\u2193" }[sorted] ?? "",
    );
    const header = sortable
      ? el("button.v-sort", { type: "button", title, onclick: sort }, el("span", {}, name), mark)
      : el("span", {}, name);
    const wide =
      { S: 10 * dtype.size, U: 2.5 * dtype.size, M: 190, c: 200, r: 40 + 60 * (dtype.fields?.length ?? 0) }[
        dtype.kind
      ] ?? 110;
    const width = Math.max(
      90,
      Math.min(320, (shape.length ? 40 + 65 * shape.reduce((a, b) => a * b, 1) : wide) + 16),
      name.length * 9 + 36,
    );
    return { width, header, numeric: isNumeric(dtype) && !shape.length && dtype.kind !== "b", sorted };
  }

  /** @returns {[string, import("./arrayview.js").State]} what a press on the name does */
  nextOrder(name, sorted) {
    if (!sorted) return [`Sort by ${name}`, { sortby: name, order: undefined }];
    if (sorted === "ascending") return [`Sort by ${name}, the greatest first`, { sortby: name, order: "descending" }];
    return ["Show in the order of the array", { sortby: undefined, order: undefined }];
  }

  async load(fields, [start, stop], signal) {
    // From the end, whose number need not be known.
    const slice_ =
      this.state.sortby && this.state.order === "descending" ? `${-1 - start}:${-1 - stop}:-1` : `${start}:${stop}`;
    const query = { slice_, filter: this.state.filter, sortby: this.state.sortby };
    const width = fields.reduce((sum, { dtype }) => sum + dtype.size, 0);
    const single = fields.length <= MOST_SINGLE && width * 2 <= this.dtype.size;
    const load = single ? this.loadFields(fields, query, signal) : this.loadRecords(fields, query, signal);
    const read = await load.catch((error) => {
      // A condition that is refused has no rows.
      if (!signal.aborted && !start && !this.known) this.grid.setRows(0);
      throw error;
    });
    if (!this.known) this.found(start, read.length, stop - start);
    return (row, column) => (row - start < read.length ? read.text(row - start, column) : undefined);
  }

  async loadRecords(fields, query, signal) {
    const array = parseNpy(await this.api.array(this.dataset.path, query, { signal }));
    const readers = fields.map(({ name }) => array.field(name));
    return { length: array.shape[0], text: (row, column) => formatValue(readers[column](row), fields[column].dtype) };
  }

  /** A few narrow columns of wide records: the other fields need not be sent. */
  async loadFields(fields, query, signal) {
    const arrays = await Promise.all(
      fields.map(async ({ name }) =>
        parseNpy(await this.api.array(this.dataset.path, { ...query, field: name }, { signal })),
      ),
    );
    const text = (row, column) => {
      const array = arrays[column];
      const items = array.size / Math.max(1, array.shape[0]);
      if (items === 1) return formatValue(array.at(row), array.dtype);
      return `[${Array.from({ length: items }, (_, i) => formatValue(array.at(row * items + i), array.dtype)).join(", ")}]`;
    };
    return { length: arrays[0].shape[0], text };
  }

  /** Rows of a condition came: there may be more, or this was the end. */
  found(start, count, asked) {
    const total = this.dataset.info.shape[0];
    this.end = Math.max(this.end, start + count);
    this.known = count < asked || this.end >= total;
    this.say();
    const rows = this.known ? this.end : Math.min(total, this.end + MORE);
    if (rows !== this.grid.rows) this.grid.setRows(rows);
  }

  say() {
    const total = formatCount(this.dataset.info.shape[0]);
    if (!this.state.filter) this.count.textContent = `${total} rows`;
    else
      this.count.textContent = this.known
        ? `${formatCount(this.end)} of ${total} rows`
        : `${formatCount(this.end)} or more of ${total} rows`;
  }

  positioned(row) {
    const text = row ? String(row) : undefined;
    if (text !== this.state.row) this.change({ row: text }, () => {});
  }

  async refresh() {
    this.grid?.reload();
  }

  async update() {
    if (this.form() !== this.shown) return this.show(this.state);
    return this.state.filter ? this.buildGrid() : this.grid.reload();
  }

  destroy() {
    this.grid?.destroy();
    super.destroy();
  }
}
