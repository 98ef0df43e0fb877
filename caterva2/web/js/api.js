// The only module that asks the server, and it asks what every client may: the public REST API.

import { lines } from "./stream.js";

/** An answer that is none, in the server's words. */
export class ApiError extends Error {
  /**
   * @param {number} status of the answer; 0 if there was none
   * @param {string} detail
   */
  constructor(status, detail) {
    super(detail);
    this.status = status;
    this.detail = detail;
  }
}

// What upstream's clients look for, for people.
const WORDS = {
  LOGIN_BAD_CREDENTIALS: "E-mail address or password is wrong.",
  REGISTER_USER_ALREADY_EXISTS: "There is a user with this e-mail address already.",
  RESET_PASSWORD_BAD_TOKEN: "This link does not hold any more: it was used, or it is older than a day. Ask for another one.",
};

/**
 * @typedef {{email: string, superuser: boolean}} User
 * @typedef {{user: User|null, users: boolean, registration: boolean, mail: boolean}} Session
 * @typedef {{path: string, kind: "array"|"frame"|"file", nbytes: number, mtime: number}} Entry
 * @typedef {{signal?: AbortSignal, headers?: Record<string, string>, json?: unknown, form?: Record<string, string>, keepalive?: boolean}} Options
 */

/** @param {string} path @returns {string} the same in a URL */
export function encodedPath(path) {
  return path.split("/").map((name) => encodeURIComponent(name).replaceAll("%40", "@")).join("/");
}

export class Api {
  /** @param {string} base the address of the subscriber, as the page has it */
  constructor(base) {
    this.root = base.replace(/\/*$/, "/");
    /** Without a slash at its end, for others to copy. */
    this.base = this.root.slice(0, -1);
  }

  /**
   * @param {string} method
   * @param {string} path below the subscriber's address
   * @param {Options} [options]
   * @returns {Promise<Response>} a success
   */
  async request(method, path, { signal, headers = {}, json, form, keepalive } = {}) {
    let body;
    if (json !== undefined) [body, headers] = [JSON.stringify(json), { ...headers, "Content-Type": "application/json" }];
    else if (form) body = new URLSearchParams(form);
    let response;
    try {
      response = await fetch(this.root + path, { method, headers, body, signal, keepalive, credentials: "same-origin" });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, "The subscriber does not answer.");
    }
    if (!response.ok) throw new ApiError(response.status, await said(response));
    return response;
  }

  /** @param {string} path @param {Options} [options] @returns {Promise<any>} */
  async get(path, options) {
    return (await this.request("GET", path, options)).json();
  }

  /** @param {string} path @param {Options} [options] @returns {Promise<any>} */
  async post(path, options) {
    const response = await this.request("POST", path, options);
    return response.status === 204 ? null : response.json();
  }

  // Who asks

  /** @returns {Promise<Session>} */
  session() {
    return this.get("auth/me");
  }

  login(username, password) {
    return this.post("auth/jwt/login", { form: { username, password } });
  }

  logout() {
    return this.post("auth/jwt/logout");
  }

  register(email, password) {
    return this.post("auth/register", { json: { email, password } });
  }

  changePassword(password, newPassword) {
    return this.post("auth/password", { json: { password, new_password: newPassword } });
  }

  forgotPassword(email) {
    return this.post("auth/forgot-password", { json: { email } });
  }

  resetPassword(token, password) {
    return this.post("auth/reset-password", { json: { token, password } });
  }

  tokens() {
    return this.get("auth/tokens");
  }

  addToken(name, days) {
    return this.post("auth/tokens", { json: { name, days } });
  }

  removeToken(id) {
    return this.request("DELETE", `auth/tokens/${encodeURIComponent(id)}`);
  }

  // Users, for superusers

  users() {
    return this.get("api/listusers/");
  }

  addUser(username, password, superuser) {
    return this.post("api/adduser/", { json: { username, password: password || null, superuser } });
  }

  removeUser(username) {
    return this.post(`api/deluser/${encodeURIComponent(username)}`);
  }

  resetLink(email) {
    return this.post("auth/reset-link", { json: { email } });
  }

  // Reading

  /** @returns {Promise<Record<string, any>>} */
  roots(options) {
    return this.get("api/roots", options);
  }

  /**
   * List a root while the answer comes.
   * @param {string} path
   * @param {(entries: Entry[]) => void} take called with a few at a time
   * @param {Options} [options]
   * @returns {Promise<void>}
   */
  async list(path, take, options) {
    const response = await this.request("GET", `api/list/${encodedPath(path)}?details=true`, options);
    await lines(response, (texts) => take(texts.filter((text) => text.startsWith("{")).map((text) => JSON.parse(text.replace(/,$/, "")))));
  }

  info(path, options) {
    return this.get(`api/info/${encodedPath(path)}`, options);
  }

  async array(path, query, options) {
    return (await this.request("GET", `api/fetch/${encodedPath(path)}${asked({ ...query, format: "npy" })}`, options)).arrayBuffer();
  }

  async frame(path, query, options) {
    return (await this.request("GET", `api/fetch/${encodedPath(path)}${asked(query)}`, options)).arrayBuffer();
  }

  async contents(path, { start, stop, signal }) {
    const headers = { Range: `bytes=${start}-${stop - 1}` };
    return (await this.request("GET", `api/download/${encodedPath(path)}`, { signal, headers })).arrayBuffer();
  }

  status(options) {
    return this.get("api/status", options);
  }

  // Addresses

  /** @param {string} path of a file @returns {string} */
  downloadUrl(path) {
    return `${this.root}api/download/${encodedPath(path)}`;
  }

  /** @param {string} path of a dataset, a folder or a root @returns {string} of its page */
  viewUrl(path) {
    return `${this.root}view/${encodedPath(path)}`;
  }

  /** @param {string} [page] "login", or "" for the first one @returns {string} */
  pageUrl(page = "") {
    return this.root + page;
  }

  /** @returns {EventSource} all changes of what is followed */
  events() {
    return new EventSource(`${this.root}api/events`);
  }
}

function asked(query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function said(response) {
  let detail;
  try {
    ({ detail } = await response.json());
  } catch {
    // A proxy's page, or nothing.
  }
  if (Array.isArray(detail)) return detail.map(({ loc, msg }) => `${loc?.at(-1) ?? ""}: ${msg}`).join("; ");
  if (detail?.reason) return detail.reason;
  if (typeof detail === "string") return WORDS[detail] ?? detail;
  return `${response.status} ${response.statusText}`.trim();
}
