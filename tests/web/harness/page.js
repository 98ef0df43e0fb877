// The least page that shows views: what the shell does for them, in little.

import { viewsFor } from "/static/js/views/registry.js";

async function get(url, signal, headers = {}) {
  const response = await fetch(url, { signal, headers });
  if (!response.ok) throw Object.assign(new Error(response.statusText), await response.json());
  window.received = (window.received ?? 0) + Number(response.headers.get("Content-Length"));
  return response;
}

const encoded = (path) => path.split("/").map(encodeURIComponent).join("/");
const asked = (query) => new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined));

const api = {
  info: async (path) => (await get(`/api/info/${encoded(path)}`)).json(),
  array: async (path, query, { signal } = {}) =>
    (await get(`/api/fetch/${encoded(path)}?${asked({ ...query, format: "npy" })}`, signal)).arrayBuffer(),
  frame: async (path, query, { signal } = {}) => (await get(`/api/fetch/${encoded(path)}?${asked(query)}`, signal)).arrayBuffer(),
  contents: async (path, { start, stop, signal }) =>
    (await get(`/api/download/${encoded(path)}`, signal, { Range: `bytes=${start}-${stop - 1}` })).arrayBuffer(),
  downloadUrl: (path) => `/api/download/${encoded(path)}`,
  viewUrl: (path) => `/view/${encoded(path)}`,
};

const host = document.getElementById("host");
let shown = null;

/** Show what a URL says, in place of what was shown. */
async function look() {
  shown?.view.destroy();
  delete document.body.dataset.shown;
  window.received = 0;
  const path = decodeURIComponent(location.pathname.slice("/view/".length));
  const dataset = { path, info: await api.info(path) };
  const { view: key, ...state } = Object.fromEntries(new URLSearchParams(location.search));
  const kinds = viewsFor(dataset);
  const kind = kinds.find((one) => one.key === key) ?? kinds[0];
  shown = { dataset, kind, view: new kind.View(host, dataset, api) };
  label(path, dataset.info, kinds, kind);
  await shown.view.show(state);
  document.body.dataset.shown = kind.key;
}

function label(path, info, kinds, chosen) {
  document.getElementById("path").textContent = path;
  document.getElementById("shape").textContent = `${JSON.stringify(info.shape ?? info.nbytes)} ${JSON.stringify(info.dtype ?? "")}`;
  document.querySelector("nav").replaceChildren(...kinds.map(({ key, title }) => {
    const link = document.createElement("a");
    link.href = `?view=${key}`;
    link.textContent = title;
    if (key === chosen.key) link.setAttribute("aria-current", "page");
    return link;
  }));
}

host.addEventListener("view-state", ({ detail }) => {
  history.replaceState(null, "", `?${asked({ view: shown.kind.key, ...detail })}`);
});

window.look = (url) => {
  history.pushState(null, "", url);
  return look();
};
window.selection = () => JSON.parse(JSON.stringify(shown.view.selection));
window.renew = async () => {
  shown.dataset.info = await api.info(shown.dataset.path);
  await shown.view.update();
};
await look();
