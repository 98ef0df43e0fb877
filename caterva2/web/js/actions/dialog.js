// Dialogs: a form in the browser's own <dialog>, which keeps the focus inside and closes with Esc.

import { el, newId } from "../views/dom.js";

/**
 * Ask for something. The dialog stays open, and says why, when what is done with it fails.
 * @template T
 * @param {string} title
 * @param {(Node|string|null)[]} content
 * @param {{action: string, danger?: boolean, submit: () => Promise<T>|T}} options what the button says and does
 * @returns {Promise<T|undefined>} what was done; undefined when it was closed
 */
export function ask(title, content, { action, danger = false, submit }) {
  return new Promise((resolve) => {
    const id = newId("dialog");
    const message = el("p.a-error", { role: "alert", hidden: true });
    const button = el(danger ? "button.a-button.a-danger" : "button.a-button.a-primary", { type: "submit" }, action);
    const form = el(
      "form.a-form",
      { method: "dialog", novalidate: true },
      el("h2", { id }, title),
      ...content,
      message,
      el("div.a-row.a-end", {}, el("button.a-button", { type: "button", onclick: () => dialog.close() }, "Cancel"), button),
    );
    const dialog = /** @type {HTMLDialogElement} */ (el("dialog.a-dialog", { "aria-labelledby": id }, form));
    let result;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      message.hidden = true;
      button.disabled = true;
      try {
        result = await submit();
        dialog.close();
      } catch (error) {
        message.textContent = error?.detail ?? error?.message ?? String(error);
        message.hidden = false;
      } finally {
        button.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * A labelled line to type in.
 * @param {string} label
 * @param {Record<string, unknown>} properties of the input
 * @param {string} [hint]
 * @returns {{element: HTMLElement, input: HTMLInputElement}}
 */
export function field(label, properties = {}, hint = "") {
  const id = newId("field");
  const input = el("input", { id, type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": hint && `${id}-hint`, ...properties });
  const element = el("div.a-field", {}, el("label", { for: id }, label), input, hint ? el("p.a-hint", { id: `${id}-hint` }, hint) : null);
  return { element, input };
}
