// A dialog for lazy arrays: an expression, the datasets that its names stand for, and what comes of it before it is saved.

import { el, newId } from "../views/dom.js";
import { ask, field } from "./dialog.js";
import { matching, namesIn } from "./names.js";

const PAUSE = 350; // milliseconds without a key before it is tried out
const OFFERED = 50;
const ROWS = 6;
const COLUMNS = 8;

/**
 * @typedef {object} ExpressionApi
 * @property {(body: object, options?: {signal?: AbortSignal}) => Promise<{shape: number[], dtype: any}|string>} evaluate
 *   the form without a slice, with one the values as CSV
 * @property {(body: object, headers?: Record<string, string>) => Promise<string>} lazyexpr
 * @property {() => Promise<string[]>} datasets the paths that may be operands
 */

/**
 * @param {ExpressionApi} api
 * @param {{operand?: string}} [options] the dataset that one begins with
 * @returns {Promise<string|undefined>} the path of what was saved
 */
export function askExpression(api, { operand } = {}) {
  const form = new ExpressionForm(api, operand);
  const made = ask("New expression", form.content, { action: "Save", submit: () => form.save() });
  form.changed();
  return made.finally(() => form.destroy());
}

class ExpressionForm {
  constructor(api, operand) {
    this.api = api;
    this.first = operand;
    this.ended = new AbortController();
    /** @type {Map<string, {element: HTMLElement, input: HTMLInputElement}>} */
    this.operands = new Map();
    this.expression = field("Expression", { value: operand ? "a" : "", placeholder: "(a + b) / 2", class: "a-code", oninput: () => this.changed() }, "Names stand for datasets; sum(a, axis=0), where(a > 0, a, 0), a[0:10] and what NumPy has for operators");
    this.rows = el("fieldset.a-operands", { hidden: true }, el("legend", {}, "Names"));
    this.options = el("datalist", { id: newId("datasets") });
    this.name = field("Save as", { value: "", placeholder: "mean" }, "In @personal, unless it begins with @shared/ or @public/");
    this.compute = el("input", { type: "checkbox", id: newId("compute") });
    this.preview = el("output.a-preview", { "aria-live": "polite" });
    this.content = [
      this.expression.element,
      this.rows,
      this.options,
      this.preview,
      this.name.element,
      el("p.a-check", {}, this.compute, el("label", { for: this.compute.id }, "Compute the values now and keep them, instead of each time they are read")),
    ];
    this.known = this.api.datasets().catch(() => []);
  }

  /** Ask for the datasets of the names that are there now, and try it out soon. */
  changed() {
    const names = namesIn(this.expression.input.value);
    for (const [name, row] of this.operands) row.element.hidden = !names.includes(name);
    for (const name of names) if (!this.operands.has(name)) this.addOperand(name);
    this.rows.hidden = !names.length;
    clearTimeout(this.timer);
    this.trying?.abort();
    this.timer = setTimeout(() => this.tryOut(), PAUSE);
  }

  addOperand(name) {
    const row = field(name, { list: this.options.id, placeholder: "root/dir/name.b2nd", value: this.operands.size ? "" : this.first ?? "", required: true });
    row.input.addEventListener("input", () => { this.offer(row.input.value); this.changed(); });
    row.input.addEventListener("focus", () => this.offer(row.input.value));
    this.operands.set(name, row);
    this.rows.append(row.element);
  }

  async offer(text) {
    const found = matching(await this.known, text, OFFERED);
    this.options.replaceChildren(...found.map((path) => el("option", { value: path })));
  }

  body() {
    const names = namesIn(this.expression.input.value);
    const operands = Object.fromEntries(names.map((name) => [name, this.operands.get(name)?.input.value.trim() ?? ""]));
    return { expression: this.expression.input.value.trim(), operands };
  }

  async tryOut() {
    const body = this.body();
    const missing = Object.entries(body.operands).filter(([, path]) => !path).map(([name]) => name);
    if (!body.expression || missing.length || !Object.keys(body.operands).length) {
      this.tell(missing.length ? `Say which dataset ${missing.join(", ")} stands for.` : "");
      return;
    }
    this.trying = new AbortController();
    const { signal } = this.trying;
    try {
      const form = /** @type {{shape: number[], dtype: any}} */ (await this.api.evaluate(body, { signal }));
      const slice_ = cornerOf(form.shape);
      const text = /** @type {string} */ (await this.api.evaluate({ ...body, slice_, format: "csv" }, { signal }));
      const dtype = typeof form.dtype === "string" ? form.dtype : "structured";
      if (!signal.aborted) this.tell(`shape (${form.shape.join(", ")}), ${dtype}`, `[${slice_}]\n${text}`);
    } catch (error) {
      if (!signal.aborted && !this.ended.signal.aborted) this.tell(error.detail ?? error.message, "", true);
    }
  }

  tell(text, values = "", wrong = false) {
    this.preview.replaceChildren(
      text ? el(wrong ? "p.a-error" : "p.a-hint", {}, text) : "",
      values ? el("pre", { tabindex: "0" }, values.trimEnd()) : "",
    );
  }

  async save() {
    const name = this.name.input.value.trim();
    if (!name) throw new Error("say as what it is to be saved");
    try {
      return await this.api.lazyexpr({ ...this.body(), name, compute: this.compute.checked }, { "If-None-Match": "*" });
    } catch (error) {
      if (error.status === 412) throw new Error(`${name} is there already: choose another name`);
      throw error;
    }
  }

  destroy() {
    clearTimeout(this.timer);
    this.trying?.abort();
    this.ended.abort();
  }
}

/** The first rows and columns of an array of any dimension. */
function cornerOf(shape) {
  const drawn = shape.slice(-2);
  const first = drawn.map((extent, i) => `0:${Math.min(extent, drawn.length === 2 && i === 0 ? ROWS : COLUMNS)}`);
  return [...shape.slice(0, -2).map(() => "0"), ...first].join(", ");
}
