// What is known of a dataset besides its values: form, compression, times, and its own metadata.

import { bytes } from "../actions/units.js";
import { dtypeName, parseDtype } from "../dtypes.js";
import { when } from "../times.js";
import { el } from "../views/dom.js";

const CODECS = { 0: "BloscLZ", 1: "LZ4", 2: "LZ4HC", 4: "Zlib", 5: "Zstandard" };
const FILTERS = { 1: "shuffle", 2: "bitshuffle", 3: "delta", 4: "truncated precision" };

/** @param {any} info the answer of GET /api/info @returns {string} its form in a line */
export function form({ shape, dtype, nbytes }) {
  if (!shape) return `${bytes(nbytes)}`;
  const sizes = shape.length ? shape.map(String).join(" \u00d7 ") : "a single value";
  return `${typeName(dtype)}, ${sizes}`;
}

/** @param {any} info @returns {HTMLElement} */
export function facts(info) {
  const schunk = info.schunk ?? info;
  const { cparams, vlmeta } = schunk;
  const rows = [
    ["Shape", info.shape && `(${info.shape.join(", ")}${info.shape.length === 1 ? "," : ""})`],
    ["Type", info.dtype && typeName(info.dtype)],
    ["Expression", info.expression],
    ["Operands", info.operands && Object.entries(info.operands).map(([name, path]) => `${name} = ${path}`).join(", ")],
    ["Changed", when(info.mtime ?? schunk.mtime)],
    ["Size", schunk.nbytes !== undefined && bytes(schunk.nbytes)],
    ["Compressed", schunk.cbytes && `${bytes(schunk.cbytes)}, ${schunk.cratio.toFixed(1)} to 1`],
    ["Codec", cparams && `${CODECS[cparams.codec] ?? `number ${cparams.codec}`}, level ${cparams.clevel}${filters(cparams)}`],
    ["Chunks", info.chunks && `(${info.chunks.join(", ")})`],
    ["Blocks", info.blocks && `(${info.blocks.join(", ")})`],
    ["Number of chunks", schunk.nchunks],
  ].filter(([, value]) => value !== undefined && value !== null && value !== false && value !== 0 && value !== "()");
  const own = Object.entries(vlmeta ?? {});
  return el(
    "div.facts",
    {},
    el("h2", {}, "About it"),
    definitions(rows),
    el("h2", {}, "Metadata"),
    own.length ? definitions(own.map(([name, value]) => [name, text(value)])) : el("p.empty", {}, "It has no metadata of its own."),
  );
}

function definitions(rows) {
  return el("dl", {}, ...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value instanceof Node ? value : String(value)))));
}

function filters({ filters: numbers = [] }) {
  const names = numbers.map((number) => FILTERS[number]).filter(Boolean);
  return names.length ? `, ${names.join(", ")}` : "";
}

/** @param {unknown} form a dtype, as the API tells it @returns {string} */
function typeName(form) {
  try {
    return described(parseDtype(form));
  } catch {
    return typeof form === "string" ? form : JSON.stringify(form);
  }
}

/** @param {import("../dtypes.js").Dtype} dtype @returns {string} */
function described(dtype) {
  if (dtype.kind !== "r") return dtypeName(dtype);
  const fields = (dtype.fields ?? []).map((field) => `${field.name} (${[...field.shape, ""].join(" \u00d7 ")}${described(field.dtype)})`);
  return `records of ${fields.join(", ")}`;
}

function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 1);
}
