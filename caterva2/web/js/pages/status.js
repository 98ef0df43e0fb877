// The status page: how the subscriber is, for those who operate it. It asks again while it is looked at.

import { el } from "../views/dom.js";
import { ago, bytes, count, seconds } from "../actions/units.js";

const EACH = 5000; // milliseconds

/** The page of /status. */
export class StatusPage {
  /**
   * @param {HTMLElement} host
   * @param {{api: {status: (options: {signal: AbortSignal}) => Promise<any>}}} shell
   */
  constructor(host, { api }) {
    this.api = api;
    this.title = "Status";
    this.filled = false;
    this.trouble = el("p.a-error", { role: "alert", hidden: true });
    this.figures = el("dl.a-figures", {});
    this.rows = el("tbody", {});
    this.when = el("p.a-hint", {});
    this.element = el(
      "section.a-page",
      { "aria-labelledby": "status-title" },
      el("h1", { id: "status-title" }, "Status"),
      this.trouble,
      this.figures,
      el("h2", {}, "Roots"),
      el("div.a-scroll", { tabindex: "0", role: "region", "aria-label": "Roots" }, table(this.rows)),
      this.when,
    );
    host.append(this.element);
    this.ended = new AbortController();
    document.addEventListener("visibilitychange", () => this.again(), { signal: this.ended.signal });
  }

  /** Show the present status, and follow it until `destroy`; an error is thrown while nothing has been shown yet. */
  async show() {
    clearTimeout(this.timer);
    try {
      this.fill(await this.api.status({ signal: this.ended.signal }));
      this.say("");
    } catch (error) {
      if (this.ended.signal.aborted) return;
      if (!this.filled) throw error;
      this.say(error.detail ?? error.message);
      // Who may not see it now will not be let in by asking.
      if ([401, 403, 404].includes(error.status)) return;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.again(), EACH);
  }

  again() {
    if (!document.hidden && !this.ended.signal.aborted) this.show();
  }

  say(text) {
    this.trouble.textContent = text;
    this.trouble.hidden = !text;
  }

  fill(report) {
    this.filled = true;
    const { events, cache } = report;
    const lag = events.lag;
    const share = cache.limit ? ` of ${bytes(cache.limit)}` : "";
    this.figures.replaceChildren(
      figure("Message bus", report.bus, report.trouble ?? "", report.bus === "disconnected" ? "bad" : "good"),
      figure("Running", ago(Date.now() / 1000 - report.started), `version ${report.version}`),
      figure("Changes", `${events.rate < 10 ? events.rate.toFixed(2) : Math.round(events.rate)} / s`, `${count(events.changes)} since the start`),
      figure("Lag", lag ? seconds(lag.median) : "\u2013", lag ? `latest ${seconds(lag.latest)}, longest ${seconds(lag.longest)}` : "no change yet"),
      figure("Listeners", count(events.listeners), "clients that follow changes"),
      figure("Cache", bytes(cache.nbytes) + share, cache.writable ? "" : "cannot be written", cache.writable ? "" : "bad", cache.limit ? cache.nbytes / cache.limit : null),
      figure("Hit ratio", cache.hit_ratio === null ? "\u2013" : `${(100 * cache.hit_ratio).toFixed(1)} %`, `${count(cache.found)} of ${count(cache.wanted)} chunks`, "", cache.hit_ratio),
      figure("Evicted", bytes(cache.evicted), cache.evictions === 1 ? "once" : `${count(cache.evictions)} times`),
    );
    this.rows.replaceChildren(...report.roots.map(row));
    if (!report.roots.length) this.rows.append(el("tr", {}, el("td", { colspan: "7" }, "No publisher has announced a root.")));
    this.when.textContent = `As of ${new Date().toLocaleTimeString()}; asked again every ${EACH / 1000} seconds.`;
  }

  destroy() {
    clearTimeout(this.timer);
    this.ended.abort();
    this.element.remove();
  }
}

function table(rows) {
  const columns = ["Root", "Publisher", "Presence", "Freshness", "Files", "Heard of", "Changes"];
  return el("table.a-table", {}, el("thead", {}, el("tr", {}, ...columns.map((name) => el("th", { scope: "col" }, name)))), rows);
}

function row(root) {
  const fresh = root.freshness ?? "not followed";
  const age = root.age === null ? "" : `, ${ago(root.age)} old`;
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, root.name),
    el("td", {}, root.http),
    el("td", {}, el("span.a-presence", { "data-presence": root.status }, root.status)),
    el("td", {}, fresh + age),
    el("td.a-number", {}, count(root.datasets)),
    el("td.a-number", {}, root.heard === null ? "never" : `${ago(root.heard)} ago`),
    el("td.a-number", {}, count(root.changes)),
  );
}

function figure(name, value, note, mood = "", share = null) {
  return el(
    "div.a-figure",
    { "data-mood": mood },
    el("dt", {}, name),
    el("dd", {}, el("strong", {}, value), share === null ? null : el("meter", { min: "0", max: "1", value: String(share), "aria-label": name }), el("small", {}, note)),
  );
}
