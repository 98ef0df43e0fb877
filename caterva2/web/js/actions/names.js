// Names in expressions, and datasets that fit what somebody types.

const WORDS = new Set("True False None and or not in is if else for lambda await yield".split(" "));
const TEXT = /\b[bBrRuU]{0,2}(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'/g;

/**
 * The names that stand for datasets, in their order: those that are no text, function, method, keyword or number.
 * @param {string} expression
 * @returns {string[]}
 */
export function namesIn(expression) {
  const plain = expression.replace(TEXT, " ");
  const found = new Set();
  for (const match of plain.matchAll(/(?<![\p{L}\p{N}_.])[\p{L}_][\p{L}\p{N}_]*/gu)) {
    const rest = plain.slice(match.index + match[0].length);
    const called = /^\s*\(/.test(rest);
    const keyword = /^\s*=(?!=)/.test(rest);
    if (!called && !keyword && !WORDS.has(match[0])) found.add(match[0]);
  }
  return [...found];
}

/**
 * Datasets whose paths have all of some words, those that begin with the first one before the others.
 * @param {string[]} paths
 * @param {string} text
 * @param {number} most
 * @returns {string[]}
 */
export function matching(paths, text, most) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  const later = [];
  for (const path of paths) {
    const lower = path.toLowerCase();
    if (!words.every((word) => lower.includes(word))) continue;
    (words.length && !lower.startsWith(words[0]) ? later : found).push(path);
    if (found.length >= most) break;
  }
  return [...found, ...later].slice(0, most);
}
