// The only way from HTML and Markdown to the page: what could run, load from elsewhere, or dress as our page is left out.

import { marked } from "../vendor/marked.js";
import DOMPurify from "../vendor/purify.js";

const OPTIONS = {
  RETURN_DOM_FRAGMENT: true,
  USE_PROFILES: { html: true },
  FORBID_TAGS: [
    "style",
    "form",
    "input",
    "button",
    "select",
    "textarea",
    "option",
    "dialog",
    "video",
    "audio",
    "source",
    "picture",
    "map",
    "area",
  ],
  FORBID_ATTR: [
    "style",
    "class",
    "id",
    "name",
    "srcset",
    "background",
    "usemap",
    "autofocus",
    "tabindex",
    "contenteditable",
    "for",
  ],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};
const INLINE_IMAGE = /^data:image\/(png|jpeg|gif|webp);base64,/i;

/**
 * @typedef {object} Links how what a document names is found
 * @property {(path: string) => string|null} image the URL of a picture beside the document
 * @property {(path: string) => string|null} page the URL of the page of a dataset beside it
 */

/**
 * @param {string} html
 * @param {Links} [links]
 * @returns {DocumentFragment} what of it is harmless
 */
export function fragmentOfHtml(html, links) {
  const fragment = /** @type {DocumentFragment} */ (/** @type {unknown} */ (DOMPurify.sanitize(quiet(html), OPTIONS)));
  for (const image of fragment.querySelectorAll("img")) settleImage(image, links);
  for (const link of fragment.querySelectorAll("a")) settleLink(link, links);
  for (const table of fragment.querySelectorAll("table")) table.removeAttribute("border");
  return fragment;
}

/**
 * Take out what the page's policy would report while DOMPurify parses it. That it is harmless is DOMPurify's work alone.
 * @param {string} html
 */
function quiet(html) {
  return html
    .replace(/<style\b[^]*?(<\/style\s*>|$)/gi, "")
    .replace(/<[a-z][^>]*>/gi, (tag) =>
      tag.replace(/([\s"'/])(?:style|on\w+)\s*=\s*(?:"[^"]*"|'[^']*'|[^\s>]*)/gi, "$1"),
    );
}

/** @param {string} text @param {Links} [links] @returns {DocumentFragment} */
export function fragmentOfMarkdown(text, links) {
  const html = /** @type {string} */ (marked.parse(text, { async: false, gfm: true }));
  return fragmentOfHtml(html, links);
}

function settleImage(image, links) {
  // Without one, screen readers would read out its address.
  if (!image.hasAttribute("alt")) image.alt = "";
  const source = image.getAttribute("src") ?? "";
  if (INLINE_IMAGE.test(source)) return;
  const url = isRelative(source) ? (links?.image(pathOf(source)) ?? null) : null;
  if (url) image.src = url;
  else image.replaceWith(`[picture: ${image.alt || source.slice(0, 100)}]`);
  image.loading = "lazy";
}

function settleLink(link, links) {
  const target = link.getAttribute("href") ?? "";
  if (/^https?:/i.test(target) || /^mailto:/i.test(target)) {
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
    return;
  }
  const url = isRelative(target) ? (links?.page(pathOf(target)) ?? null) : null;
  if (url) link.href = url;
  else link.removeAttribute("href");
}

function isRelative(target) {
  return target !== "" && !/^([a-z][a-z0-9+.-]*:|\/|#|\\)/i.test(target);
}

function pathOf(target) {
  const plain = target.split(/[?#]/)[0];
  try {
    return decodeURIComponent(plain);
  } catch {
    return plain;
  }
}

/**
 * Links of a document that lie beside it, in its root.
 * @param {string} path of the document
 * @param {{downloadUrl: (path: string) => string, viewUrl: (path: string) => string}} api
 * @returns {Links}
 */
export function linksOf(path, api) {
  const here = path.split("/").slice(0, -1);
  const resolve = (relative) => {
    const parts = [...here];
    for (const part of relative.split("/")) {
      if (part === "..") parts.pop();
      else if (part && part !== ".") parts.push(part);
    }
    // Never out of the root.
    return parts.length > 1 && parts[0] === here[0] ? parts.join("/") : null;
  };
  const through = (make) => (relative) => {
    const found = resolve(relative);
    return found && make(found);
  };
  return { image: through((found) => api.downloadUrl(found)), page: through((found) => api.viewUrl(found)) };
}
