// Values in rows and columns.

import { dtypeName, isNumeric, parseDtype } from "../dtypes.js";
import { Look } from "../look.js";
import { parseNpy } from "../npy.js";
import { formatValue } from "../values.js";
import { ArrayView } from "./arrayview.js";
import { AxesControl } from "./axes.js";
import { el, newId, stateChoice } from "./dom.js";
import { Grid } from "./grid.js";

/** @param {any} info of GET /api/info */
export function canView(info) {
  return Array.isArray(info.shape);
}

export class TableView extends ArrayView {
  static title = "Table";

  build() {
    const { shape } = this.dataset.info;
    this.grid?.destroy();
    this.grid = null;
    if (shape.includes(0)) {
      this.body.append(el("p.v-note", {}, `This array is empty: its shape is (${shape.join(", ")}).`));
      return;
    }
    this.dtype = dtypeOf(this.dataset.info.dtype);
    this.buildChoices();
    this.look = Look.of(shape, Math.min(shape.length, 2), this.state);
    this.axes = new AxesControl({ look: this.look, names: ["Rows", "Columns"], onlook: (look) => this.moved(look) });
    this.controls.append(this.axes.element);
    this.buildGrid();
  }

  buildChoices() {
    if (this.dtype.kind !== "r") return;
    const fields = this.dtype.fields.map(({ name, dtype }) => [name, `${name} (${dtypeName(dtype)})`]);
    const change = (changes) => this.change(changes, () => this.buildGrid());
    this.controls.append(
      stateChoice(change, "field", "Field", [["", "all fields"], ...fields], this.state.field).element,
    );
  }

  buildGrid() {
    const [rowAxis, columnAxis] = this.look.axes;
    const rows = rowAxis === undefined ? 1 : this.dataset.info.shape[rowAxis];
    const columns = columnAxis === undefined ? 1 : this.dataset.info.shape[columnAxis];
    this.grid?.destroy();
    this.grid = new Grid({
      label: `Values of ${this.dataset.path}`,
      rows,
      columnCount: columns,
      column: (column) => ({
        width: this.columnWidth,
        header: columnAxis === undefined ? "value" : String(column),
        numeric: isNumeric(this.dtype),
      }),
      rowName: (row) => (rowAxis === undefined ? "" : String(row)),
      load: (rowRange, columnRange, signal) => this.load(rowRange, columnRange, signal),
      onposition: (row, column) => this.positioned(row, column),
    });
    this.body.replaceChildren(this.goTo(rows, columns), this.grid.element);
    this.grid.row = number(this.state.row);
    this.grid.column = number(this.state.column);
    this.grid.layout();
  }

  /** @override */
  get selection() {
    return { slice: this.sliceShown, field: this.field };
  }

  /** @returns {string|undefined} the only field that is wanted */
  get field() {
    return this.dtype?.fields?.find(({ name }) => name === this.state.field)?.name;
  }

  get columnWidth() {
    if (this.look.axes.length < 2 || (this.dtype.kind === "r" && !this.field)) return 320;
    return { c: 210, S: 170, U: 170, M: 230, f: 120 }[this.dtype.kind] ?? 100;
  }

  goTo(rows, columns) {
    const field = (label, most, go) => {
      const id = newId("go");
      const input = el("input", { id, type: "number", min: 0, max: most - 1, placeholder: `0\u2013${most - 1}` });
      input.addEventListener("change", () => input.value !== "" && go(Number(input.value)));
      return most > 24 ? el("span.v-field", {}, el("label", { for: id }, label), input) : null;
    };
    return el(
      "div.v-controls",
      {},
      field("Go to row", rows, (row) => this.grid.goTo(row)),
      field("Go to column", columns, (column) => this.grid.goTo(this.grid.row, column)),
    );
  }

  positioned(row, column) {
    const changes = { row: row ? String(row) : undefined, column: column ? String(column) : undefined };
    if (changes.row !== this.state.row || changes.column !== this.state.column) this.change(changes, () => {});
  }

  moved(look) {
    const turned = look.axes.join() !== this.look.axes.join();
    this.look = look;
    this.change({ ...look.toState(), ...(turned ? { row: undefined, column: undefined } : {}) }, () =>
      turned ? this.buildGrid() : this.grid.reload(),
    );
  }

  async refresh() {
    this.grid?.reload();
  }

  async load(rows, columns, signal) {
    const [rowAxis, columnAxis] = this.look.axes;
    let look = this.look;
    if (rowAxis !== undefined) look = look.withRegion(rowAxis, { start: rows[0], stop: rows[1] });
    if (columnAxis !== undefined) look = look.withRegion(columnAxis, { start: columns[0], stop: columns[1] });
    const query = { slice_: look.text(), field: this.field };
    const array = parseNpy(await this.api.array(this.dataset.path, query, { signal }));
    const [height, width] = [rows[1] - rows[0], columns[1] - columns[0]];
    const items = array.size / (height * width);
    return (row, column) => {
      const [r, c] = [row - rows[0], column - columns[0]];
      if (r >= height || c >= width || r < 0 || c < 0) return undefined;
      const place = (rowAxis > columnAxis ? c * height + r : r * width + c) * items;
      if (items === 1) return formatValue(array.at(place), array.dtype);
      return `[${Array.from({ length: items }, (_, i) => formatValue(array.at(place + i), array.dtype)).join(", ")}]`;
    };
  }

  destroy() {
    this.grid?.destroy();
    super.destroy();
  }
}

/** @returns {import("../dtypes.js").Dtype} raw bytes for what is unknown here; the values come with a dtype of their own */
function dtypeOf(form) {
  try {
    return parseDtype(form);
  } catch {
    return { kind: "V", size: 1, little: true };
  }
}

function number(text) {
  return Math.max(0, Math.floor(Number(text)) || 0);
}
