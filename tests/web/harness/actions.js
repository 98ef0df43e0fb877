// The least page that mounts the actions: what the shell does for them, in little. Tests reach the parts by `window.parts`.

import { askExpression } from "/static/js/actions/expression.js";
import * as lines from "/static/js/actions/lines.js";
import { Manager } from "/static/js/actions/manage.js";
import * as names from "/static/js/actions/names.js";
import { Notices } from "/static/js/actions/notices.js";
import { showQuota } from "/static/js/actions/quota.js";
import { TakeAway } from "/static/js/actions/takeaway.js";
import { Uploads, chooseButtons, dropZone } from "/static/js/actions/uploads.js";
import { StatusPage } from "/static/js/pages/status.js";
import { sendFile } from "/static/js/transfer.js";

const encoded = lines.encodedPath;

async function call(method, route, { json, ...options } = {}) {
  const headers = { ...options.headers, ...(json ? { "Content-Type": "application/json" } : {}) };
  const response = await fetch(route, { method, ...options, headers, body: json && JSON.stringify(json) });
  const text = response.headers.get("Content-Type")?.startsWith("application/json") ? await response.json() : await response.text();
  if (!response.ok) throw Object.assign(new Error(text.detail), { status: response.status, detail: text.detail });
  return text;
}

const api = {
  base: location.origin,
  downloadUrl: (path) => `/api/download/${encoded(path)}`,
  status: (options) => call("GET", "/api/status", options),
  quota: () => call("GET", "/api/quota"),
  move: (src, dst) => call("POST", "/api/move/", { json: { src, dst } }),
  copy: (src, dst) => call("POST", "/api/copy/", { json: { src, dst } }),
  remove: (path, options) => call("POST", `/api/remove/${encoded(path)}`, options),
  upload: (path, file, options) => sendFile(`/api/upload/${encoded(path)}`, file, options),
  evaluate: (json, options) => call("POST", "/api/evaluate/", { json, ...options }),
  lazyexpr: (json, headers) => call("POST", "/api/lazyexpr/", { json, headers }),
  datasets: async () => {
    const all = await Promise.all(Object.keys(await call("GET", "/api/roots")).map(async (root) => (await call("GET", `/api/list/${root}`)).map((name) => `${root}/${name}`)));
    return all.flat();
  },
};

const main = document.querySelector("main");
const notices = new Notices(document.getElementById("notices"));
const seen = [];

const pages = {
  status: () => new StatusPage(main, api).show(),
  takeaway: () => { parts.panel = new TakeAway(main, JSON.parse(new URLSearchParams(location.search).get("part")), api); },
  write: () => {
    main.insertAdjacentElement("beforeend", document.createElement("h1")).textContent = "@personal";
    const uploads = new Uploads(main, api, { done: (path) => seen.push(path) });
    const take = (found) => uploads.add(found, "@personal");
    main.prepend(chooseButtons(take));
    dropZone(main, take, (error) => notices.fail(error));
    showQuota(main, api);
    Object.assign(parts, { uploads, take, manager: new Manager(api, notices, { changed: (path, before) => seen.push([path, before]) }) });
  },
  expression: () => { parts.saved = askExpression(api, { operand: "foo/ds-1d.b2nd" }); },
};

const parts = { api, lines, names, seen };
window.parts = parts;
await pages[new URLSearchParams(location.search).get("page")]?.();
document.body.dataset.shown = "yes";
