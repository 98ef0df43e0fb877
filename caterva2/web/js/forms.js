// Forms: labelled fields, one button, and what went wrong beside it.

import { el, newId } from "./views/dom.js";

/**
 * A labelled field.
 * @param {string} label
 * @param {Record<string, unknown>} properties of the input
 * @param {string} [hint]
 * @returns {{element: HTMLElement, input: HTMLInputElement}}
 */
export function entry(label, properties, hint = "") {
  const id = newId("field");
  const input = el("input", { id, required: true, "aria-describedby": hint ? `${id}-hint` : null, ...properties });
  const element = el("div.entry", {}, el("label", { for: id }, label), input, hint ? el("p.hint", { id: `${id}-hint` }, hint) : null);
  return { element, input };
}

/** @param {string} label @returns {{element: HTMLElement, input: HTMLInputElement}} */
export function tick(label, properties = {}) {
  const input = el("input", { type: "checkbox", ...properties });
  return { element: el("label.tick", {}, input, label), input };
}

/** For a new password, in the words of password managers. */
export function newPassword(label = "Password") {
  return entry(label, { type: "password", autocomplete: "new-password", minlength: "8", maxlength: "1000" }, "At least 8 characters");
}

export function email(properties = {}) {
  return entry("E-mail address", { type: "email", autocomplete: "username", ...properties });
}

/**
 * A form.
 * @param {(Node|null)[]} content
 * @param {{action: string, submit: () => Promise<unknown>, done?: string}} options `done` is said after a success
 * @returns {HTMLFormElement}
 */
export function form(content, { action, submit, done = "" }) {
  const trouble = el("p.trouble", { role: "alert", hidden: true });
  const success = el("p.done", { role: "status" });
  const button = el("button.primary", { type: "submit" }, action);
  const send = async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    trouble.hidden = true;
    success.textContent = "";
    button.disabled = true;
    try {
      await submit();
      element.reset();
      success.textContent = done;
    } catch (error) {
      trouble.textContent = error.detail ?? error.message;
      trouble.hidden = false;
    } finally {
      button.disabled = false;
    }
  };
  const element = el("form.form", { onsubmit: send }, ...content, trouble, el("div.buttons", {}, button), success);
  return element;
}
