// The least shell that mounts the actions. Tests reach the parts by `window.parts`.

import { Actions } from "/static/js/actions/actions.js";
import { askExpression } from "/static/js/actions/expression.js";
import * as lines from "/static/js/actions/lines.js";
import * as names from "/static/js/actions/names.js";
import { StatusPage } from "/static/js/pages/status.js";

const given = Object.fromEntries(new URLSearchParams(location.search));
const main = document.querySelector("main");

const api = {
  root: `${location.origin}/`,
  base: location.origin,
  downloadUrl: (path) => `/api/download/${lines.encodedPath(path)}`,
  viewUrl: (path) => `/view/${lines.encodedPath(path)}`,
  status: async (options) => (await api.request("GET", "api/status", options)).json(),
  async request(method, path, { json, headers = {}, ...options } = {}) {
    const type = json ? { "Content-Type": "application/json" } : {};
    const body = json && JSON.stringify(json);
    const response = await fetch(api.root + path, { method, body, headers: { ...headers, ...type }, ...options });
    if (response.ok) return response;
    const { detail } = await response.json();
    throw Object.assign(new Error(detail), { status: response.status, detail });
  },
};

const opened = [];
const shell = { api, session: { user: document.cookie || given.user }, router: { go: (url) => opened.push(decodeURIComponent(url)) } };
const actions = new Actions(shell);
const parts = { actions, lines, names, opened };
window.parts = parts;

const pages = {
  async status() {
    try {
      await new StatusPage(main, shell).show();
    } catch (error) {
      main.append(Object.assign(document.createElement("p"), { role: "alert", textContent: error.detail }));
    }
  },
  dataset() {
    const { path, array, ...part } = JSON.parse(given.part);
    parts.tools = actions.forDataset(main, { path, info: array ? { shape: [1] } : {} });
    parts.tools.update(part);
  },
  folder() {
    main.append(Object.assign(document.createElement("h1"), { textContent: given.path }));
    parts.tools = actions.forFolder(main, given.path);
  },
  expression() {
    parts.saved = askExpression(actions.calls, { operand: "foo/ds-1d.b2nd" });
  },
};

await pages[given.page]?.();
document.body.dataset.shown = "yes";
