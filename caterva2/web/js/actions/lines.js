// The lines that get what is on screen elsewhere: in Python, with cat2cli, with curl. Names and values are data to the
// language that they are written in, whatever characters they have.

import { encodedPath } from "../api.js";

/**
 * @typedef {object} Part what of a dataset is meant; what is missing is all of it
 * @property {string} path root/dir/name
 * @property {boolean} array
 * @property {string} [slice]
 * @property {string} [field]
 * @property {string} [filter]
 * @property {string} [sortby]
 * @property {boolean} [login] whether one must be logged in to read it; own roots of users say it themselves
 */

/** The variable that `cat2cli` reads an access token from. */
export const TOKEN = "CATERVA2_CLIENT_TOKEN";

const PRIVATE = ["@shared", "@personal"];
// The end of the text, control characters, and what reorders what one sees (bidi controls).
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/u;
const SLICE = /^[\d:,. +-]+$/;
const EACH_UNSEEN = new RegExp(UNSEEN, "gu");

/** @param {string} text @returns {string} a literal of Python */
export function pythonText(text) {
  const escaped = text
    .replace(/[\\"]/g, "\\$&")
    .replace(EACH_UNSEEN, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return `"${escaped}"`;
}

/** @param {string} text @returns {string} one word of a POSIX shell; of bash and zsh where a character cannot be seen */
export function shellWord(text) {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  if (!UNSEEN.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = text
    .replace(/[\\']/g, "\\$&")
    .replace(EACH_UNSEEN, (letter) => [...new TextEncoder().encode(letter)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join(""));
  return `$'${escaped}'`;
}

/**
 * The query of /api/fetch and /api/download.
 * @param {Part} part
 * @param {string} [format]
 * @returns {string} with its "?", or ""
 */
export function query(part, format) {
  const given = { slice_: part.slice, field: part.field, filter: part.filter, sortby: part.sortby, format };
  const text = new URLSearchParams(Object.entries(given).filter(([, value]) => value)).toString();
  return text && `?${text}`;
}

/**
 * @param {Part} part
 * @param {string} base the subscriber's address, without a slash at its end
 * @returns {string}
 */
export function pythonLines(part, base) {
  const [os, token] = needsLogin(part) ? ["import os\n\n", `, os.environ["${TOKEN}"]`] : ["", ""];
  const head = `${os}import caterva2\n\nclient = caterva2.Client(${pythonText(base)}${token})\nds = client.get(${pythonText(part.path)})\n`;
  const keywords = [
    part.filter && pythonText(part.filter),
    part.sortby && `sortby=${pythonText(part.sortby)}`,
    part.slice && `slice_=${pythonText(part.slice)}`,
    part.field && `field=${pythonText(part.field)}`,
  ];
  if (part.filter || part.sortby) return `${head}values = ds.rows(${keywords.filter(Boolean).join(", ")})`;
  if (part.field) {
    const slice = part.slice ? `${pythonText(part.slice)}, ` : "";
    return `${head}values = ds.fetch(${slice}field=${pythonText(part.field)})`;
  }
  // It came from a URL, so it may be anything; what stands between brackets is a program.
  if (part.slice && !SLICE.test(part.slice)) return `${head}values = ds.fetch(${pythonText(part.slice)})`;
  return `${head}values = ds[${part.slice || (part.array ? "..." : ":")}]`;
}

/**
 * @param {Part} part
 * @param {string} base
 * @returns {string}
 */
export function cliLine(part, base) {
  const options = [["field", part.field], ["filter", part.filter], ["sortby", part.sortby]];
  // A name with brackets would be taken for one with a slice.
  const bracketed = /[[\]]/.test(part.path);
  const target = part.slice && !bracketed ? `${part.path}[${part.slice}]` : part.path;
  if (bracketed) options.unshift(["slice", part.slice || "..."]);
  const words = options.filter(([, value]) => value).map(([name, value]) => ` ${shellWord(`--${name}=${value}`)}`);
  return `cat2cli --subscriber ${shellWord(base)} show ${shellWord(target)}${words.join("")}`;
}

/**
 * @param {Part} part
 * @param {string} base
 * @returns {string} it writes NumPy's file of an array, and of anything else the file itself
 */
export function curlLine(part, base) {
  const user = needsLogin(part) ? ` -H "Authorization: Bearer $${TOKEN}"` : "";
  const url = `${base}/api/download/${encodedPath(part.path)}${query(part, part.array ? "npy" : undefined)}`;
  return `curl -fS${user} -o ${shellWord(fileName(part, part.array ? "npy" : ""))} ${shellWord(url)}`;
}

/**
 * @param {Part} part
 * @param {string} format "" for the file as it is
 * @returns {string} what the file is called that is made
 */
export function fileName(part, format) {
  const name = part.path.slice(part.path.lastIndexOf("/") + 1);
  const safe = name.startsWith("-") ? `./${name}` : name;
  return format && format !== "b2nd" ? `${safe.replace(/\.b2nd$/, "")}.${format}` : safe;
}

/** @param {Part} part @returns {boolean} whether its lines need an access token in the variable TOKEN */
export function needsLogin(part) {
  return part.login || PRIVATE.includes(part.path.split("/", 1)[0]);
}
