// Answers that are read while they come, and work that lets the page go on meanwhile.

// Milliseconds of work after which others have their turn; a frame has 16.
const TURN = 8;

/**
 * Read an answer line by line.
 * @param {Response} response
 * @param {(lines: string[]) => void} take called with some whole lines at a time
 */
export async function lines(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  const turn = new Turn();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const found = (rest + value).split("\n");
    rest = found.pop();
    for (let start = 0; start < found.length; start += 500) {
      take(found.slice(start, start + 500));
      await turn.over();
    }
  }
  if (rest) take([rest]);
}

/** A turn at the page's only thread. */
export class Turn {
  constructor() {
    this.began = performance.now();
  }

  /** Let others go on, if this has lasted long enough. */
  async over() {
    if (performance.now() - this.began < TURN) return;
    await new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve(undefined);
      };
      port2.postMessage(null);
    });
    this.began = performance.now();
  }
}
