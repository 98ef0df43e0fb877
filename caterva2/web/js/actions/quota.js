// How much one may keep, and how much of it is used; nothing where the server knows no quota.

import { el } from "../views/dom.js";
import { bytes } from "./units.js";

/**
 * @param {HTMLElement} host
 * @param {{quota: () => Promise<{used: number|null, limit: number|null}>}} api
 * @returns {{update: () => Promise<void>, destroy: () => void}}
 */
export function showQuota(host, api) {
  const element = el("p.a-quota", { hidden: true });
  host.append(element);
  const update = async () => {
    try {
      const { used, limit } = await api.quota();
      element.hidden = used === null;
      if (used === null) return;
      const text = limit ? `${bytes(used)} of ${bytes(limit)} used` : `${bytes(used)} used`;
      const meter = limit ? el("meter", { min: "0", max: String(limit), high: String(0.9 * limit), value: String(used), "aria-label": "Quota" }) : null;
      element.replaceChildren(...(meter ? [meter, text] : [text]));
    } catch {
      // Whoever is not logged in has none, and older servers do not tell.
      element.hidden = true;
    }
  };
  update();
  return { update, destroy: () => element.remove() };
}
