// The calls of the REST API that actions make, on top of the client's one way to ask.

import { sendFile } from "../transfer.js";
import { encodedPath } from "../api.js";

/**
 * @typedef {object} Api what is used of `js/api.js`
 * @property {string} root the subscriber's address, with a slash at its end
 * @property {string} base the same without
 * @property {(path: string) => string} downloadUrl
 * @property {(path: string) => string} viewUrl
 * @property {(method: string, path: string, options?: object) => Promise<Response>} request a success, or an error with
 *   `status` and `detail`
 */

/** @param {Api} api */
export function callsOf(api) {
  const get = async (path, options) => (await api.request("GET", path, options)).json();
  const post = async (path, options) => (await api.request("POST", path, options)).json();
  return {
    base: api.base,
    downloadUrl: (path) => api.downloadUrl(path),
    quota: (options) => get("api/quota", options),
    move: (src, dst) => post("api/move/", { json: { src, dst } }),
    copy: (src, dst) => post("api/copy/", { json: { src, dst } }),
    remove: (path, options) => post(`api/remove/${encodedPath(path)}`, options),
    upload: (path, file, options) => sendFile(`${api.root}api/upload/${encodedPath(path)}`, file, options),
    lazyexpr: (json, headers) => post("api/lazyexpr/", { json, headers }),
    async evaluate(json, options) {
      const response = await api.request("POST", "api/evaluate/", { json, ...options });
      return json.slice_ === undefined ? response.json() : response.text();
    },
    /** All datasets that can be read, the followed roots' first; nothing is followed for it. */
    async datasets() {
      const roots = Object.values(await get("api/roots")).filter((root) => root.subscribed);
      const lists = roots.map(async ({ name }) => (await get(`api/list/${encodedPath(name)}`)).map((path) => `${name}/${path}`));
      return (await Promise.allSettled(lists)).flatMap((list) => (list.status === "fulfilled" ? list.value : []));
    },
  };
}
