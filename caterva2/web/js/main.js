// Begins: finds out who looks, which roots there are, and shows the page of the address.

import { Api } from "./api.js";
import { Shell } from "./shell.js";

// The base is relative in the page, and the page's address changes: it is fixed before that happens.
const base = /** @type {HTMLBaseElement} */ (document.querySelector("base"));
base.href = document.baseURI;

const shell = new Shell(new Api(document.baseURI));
void shell.begin();
