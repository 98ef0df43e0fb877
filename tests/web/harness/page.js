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

const path = decodeURIComponent(location.pathname.slice("/view/".length));
const dataset = { path, info: await api.info(path) };
const kinds = viewsFor(dataset);
const query = Object.fromEntries(new URLSearchParams(location.search));
const { view: key, ...state } = query;
const kind = kinds.find((one) => one.key === key) ?? kinds[0];
const host = document.getElementById("host");
const view = new kind.View(host, dataset, api);

document.getElementById("path").textContent = path;
document.getElementById("shape").textContent = `${JSON.stringify(dataset.info.shape ?? dataset.info.nbytes)} ${JSON.stringify(dataset.info.dtype ?? "")}`;
document.querySelector("nav").append(...kinds.map((one) => {
  const link = document.createElement("a");
  link.href = `?view=${one.key}`;
  link.textContent = one.title;
  if (one === kind) link.setAttribute("aria-current", "page");
  return link;
}));
host.addEventListener("view-state", ({ detail }) => {
  history.replaceState(null, "", `?${asked({ view: kind.key, ...detail })}`);
});
window.renew = async () => {
  dataset.info = await api.info(path);
  await view.update();
};
window.view = view;
await view.show(state);
document.body.dataset.shown = kind.key;
