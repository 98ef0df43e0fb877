// What changes by itself: one stream of events for the whole page, which comes back when it is lost.

const FIRST_PAUSE = 1000; // milliseconds
const LONGEST_PAUSE = 30_000;

/**
 * Dispatches "state" (its `state` is "connecting", "live" or "lost"), "change", "root" and "reset" (`detail` is what
 * the API says).
 */
export class Live extends EventTarget {
  /** @param {import("./api.js").Api} api */
  constructor(api) {
    super();
    this.api = api;
    this.state = "connecting";
    this.pause = FIRST_PAUSE;
    this.missed = false;
    addEventListener("online", () => this.state === "lost" && this.start());
    addEventListener("pagehide", () => this.stop());
    addEventListener("pageshow", (event) => event.persisted && this.start());
  }

  /** Begin, or begin anew, as after a login. */
  start() {
    this.stop();
    const source = this.api.events();
    this.source = source;
    source.addEventListener("open", () => this.opened());
    source.addEventListener("error", () => this.failed(source));
    for (const kind of ["change", "root", "reset"]) {
      source.addEventListener(kind, (event) => this.tell(kind, JSON.parse(event.data)));
    }
  }

  stop() {
    clearTimeout(this.timer);
    this.source?.close();
  }

  opened() {
    this.pause = FIRST_PAUSE;
    this.to("live");
    // A new stream does not tell what the old one had still to tell.
    if (this.missed) this.tell("reset", {});
    this.missed = false;
  }

  failed(source) {
    if (source !== this.source) return;
    this.to("lost");
    // Browsers come back by themselves after a break, but not after an answer that is none.
    if (source.readyState !== EventSource.CLOSED) return;
    this.missed = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.start(), this.pause);
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
  }

  to(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
