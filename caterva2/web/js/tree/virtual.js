// A list of which only the rows that are seen are there, so that it may have any length.

import { el } from "../views/dom.js";

// Rows beyond the edges, so that scrolling shows no holes.
const BEYOND = 12;

export class VirtualList {
  /**
   * @param {HTMLElement} host scrolls
   * @param {(index: number) => HTMLElement} draw makes a row
   * @param {() => number} height of a row, in pixels
   */
  constructor(host, draw, height) {
    this.host = host;
    this.draw = draw;
    this.height = height;
    this.length = 0;
    this.frame = 0;
    this.canvas = el("div.virtual", { role: "presentation" });
    host.append(this.canvas);
    host.addEventListener("scroll", () => this.later(), { passive: true });
    this.observer = new ResizeObserver(() => this.later());
    this.observer.observe(host);
  }

  /** Draw anew. @param {number} length how many rows there are now */
  fill(length) {
    this.length = length;
    this.canvas.style.height = `${length * this.height()}px`;
    this.render();
  }

  later() {
    this.frame ||= requestAnimationFrame(() => this.render());
  }

  render() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const height = this.height();
    const first = Math.max(0, Math.floor(this.host.scrollTop / height) - BEYOND);
    const last = Math.min(this.length, Math.ceil((this.host.scrollTop + this.host.clientHeight) / height) + BEYOND);
    const rows = [];
    for (let i = first; i < last; i += 1) {
      const row = this.draw(i);
      row.style.top = `${i * height}px`;
      rows.push(row);
    }
    this.canvas.replaceChildren(...rows);
  }

  /** Scroll as little as shows a row. @param {number} index */
  reveal(index) {
    const height = this.height();
    const [top, bottom] = [index * height, (index + 1) * height];
    if (top < this.host.scrollTop) this.host.scrollTop = top;
    else if (bottom > this.host.scrollTop + this.host.clientHeight) this.host.scrollTop = bottom - this.host.clientHeight;
    this.render();
  }
}
