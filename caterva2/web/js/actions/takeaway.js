// Take away: the lines that get what is on screen elsewhere, to be copied, and downloads of it.

import { el, newId } from "../views/dom.js";
import { TOKEN, cliLine, curlLine, fileName, needsLogin, pythonLines, query } from "./lines.js";

const KINDS = [
  ["Python", pythonLines],
  ["cat2cli", cliLine],
  ["curl", curlLine],
];

/** The panel; it follows what is looked at by `update`. */
export class TakeAway {
  /**
   * @param {HTMLElement} host
   * @param {import("./lines.js").Part} part
   * @param {{downloadUrl: (path: string) => string, base: string}} api `base` is the subscriber's address
   */
  constructor(host, part, api) {
    this.api = api;
    this.blocks = KINDS.map(([name, make]) => ({ make, ...block(name) }));
    this.files = el("div.a-row", {});
    this.told = el("p.a-hint", { role: "status" });
    this.element = el(
      "section.a-panel.a-takeaway",
      { "aria-label": "Take away" },
      el("h2", {}, "Take away"),
      this.files,
      ...this.blocks.map(({ element }) => element),
      this.told,
    );
    for (const one of this.blocks) one.button.addEventListener("click", () => this.copy(one));
    host.append(this.element);
    this.update(part);
  }

  /** @param {import("./lines.js").Part} part what is looked at now */
  update(part) {
    for (const { make, code } of this.blocks) code.textContent = make(part, this.api.base);
    this.told.textContent = needsLogin(part) ? `They need an access token in the variable ${TOKEN}; make one on the page of your account.` : "";
    const whole = !query(part);
    const formats = part.array ? [["b2nd", "Blosc2"], ["npy", "NumPy"], ["csv", "CSV"]] : [["", "Download"]];
    this.files.replaceChildren(
      ...formats.map(([format, title]) =>
        el(
          "a.a-button",
          {
            href: this.api.downloadUrl(part.path) + query(part, format === "b2nd" ? "" : format),
            download: fileName(part, format).replace(/^\.\//, ""),
          },
          `\u2193 ${title}`,
        ),
      ),
      part.array ? el("span.a-hint", {}, whole ? "the whole array" : "what is shown") : "",
    );
  }

  async copy({ name, code }) {
    try {
      await navigator.clipboard.writeText(code.textContent);
      this.told.textContent = `The ${name} lines are on the clipboard.`;
    } catch {
      // Without HTTPS, browsers give pages no clipboard.
      getSelection()?.selectAllChildren(code);
      this.told.textContent = "The browser gives no access to the clipboard: the lines are selected, copy them.";
    }
  }

  destroy() {
    this.element.remove();
  }
}

function block(name) {
  const id = newId("lines");
  const code = el("code", {});
  const button = el("button.a-button", { type: "button", "aria-label": `Copy ${name}` }, "Copy");
  const element = el(
    "figure.a-lines",
    { "aria-labelledby": id },
    el("figcaption.a-row", {}, el("span", { id }, name), button),
    el("pre", { tabindex: "0", role: "region", "aria-labelledby": id }, code),
  );
  return { name, code, button, element };
}
