// What a hand does over a plot, by mouse, pen, finger or keyboard.

/** @typedef {{x: number, y: number}} Point in the plot */
/**
 * @typedef {object} Drag
 * @property {(event: MouseEvent) => Point} at
 * @property {(point: Point, from: Point|null) => void} moved `from` is where a drag began
 * @property {(from: Point, to: Point) => void} done
 * @property {() => void} ended a drag is over, done or not
 */

/** @param {HTMLElement} plot @param {Drag} drag */
export function listenForDrags(plot, { at, moved, done, ended }) {
  /** @type {Point|null} */
  let from = null;
  const end = () => {
    from = null;
    ended();
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    from = at(event);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => moved(at(event), from));
  plot.addEventListener("pointerup", (event) => {
    const start = from;
    end();
    if (start) done(start, at(event));
  });
  plot.addEventListener("pointercancel", end);
  plot.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !from) return;
    event.stopPropagation();
    end();
  });
}

/** @param {HTMLElement} plot @param {(key: string, shift: boolean) => boolean} press whether the key was for the plot */
export function listenForKeys(plot, press) {
  plot.addEventListener("keydown", (event) => {
    // With a modifier a key is the browser's.
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (press(event.key, event.shiftKey)) event.preventDefault();
  });
}
