// Sending files. It is done with XMLHttpRequest: fetch tells nothing of what has been sent.

/**
 * Send a file as the form that the API takes.
 * @param {string} url
 * @param {Blob} file
 * @param {{signal?: AbortSignal, progress?: (sent: number) => void, headers?: Record<string, string>}} [options]
 *   `progress` is called with bytes of the request
 * @returns {Promise<any>} the answer's JSON
 * @throws {TransferError} unless it is a success
 */
export function sendFile(url, file, { signal, progress, headers = {} } = {}) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(new TransferError(0, "cancelled"));
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file);
    const abort = () => request.abort();
    request.upload.addEventListener("progress", (event) => progress?.(event.loaded));
    request.addEventListener("loadend", () => signal?.removeEventListener("abort", abort));
    request.addEventListener("abort", () => reject(new TransferError(0, "cancelled")));
    request.addEventListener("error", () => reject(new TransferError(0, "the connection broke off")));
    request.addEventListener("load", () => {
      const body = parsed(request.responseText);
      if (request.status < 300) resolve(body);
      else reject(new TransferError(request.status, words(body, request)));
    });
    request.open("POST", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    signal?.addEventListener("abort", abort);
    request.send(form);
  });
}

/** Why a file was not taken, in the server's words. */
export class TransferError extends Error {
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

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function words(body, request) {
  if (typeof body?.detail === "string") return body.detail;
  return request.status === 413 ? "it is too large for the server or a proxy before it" : `${request.status} ${request.statusText}`;
}
