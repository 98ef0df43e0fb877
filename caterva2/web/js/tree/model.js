// The roots, folders and datasets that are known, as a tree that follows what is told of them.

/**
 * @typedef {import("../api.js").Entry} Entry
 * @typedef {Folder|Dataset} Node
 */

/** A dataset in the tree. */
export class Dataset {
  /** @param {string} name @param {Folder} parent @param {Entry} entry */
  constructor(name, parent, entry) {
    this.name = name;
    this.parent = parent;
    this.level = parent.level + 1;
    this.path = `${parent.path}/${name}`;
    this.gone = false;
    this.entry = entry;
    this.place = 0;
  }

  /** What a search looks at. */
  get text() {
    this.lower ??= this.path.toLowerCase();
    return this.lower;
  }
}

/** A folder, or a root. */
export class Folder {
  /** @param {string} name @param {Folder|null} parent */
  constructor(name, parent) {
    this.name = name;
    this.parent = parent;
    this.level = parent ? parent.level + 1 : 1;
    this.path = parent ? `${parent.path}/${name}` : name;
    this.open = false;
    this.place = 0;
    /** @type {Map<string, Folder>} */
    this.folders = new Map();
    /** @type {Map<string, Dataset>} */
    this.datasets = new Map();
    /** @type {Node[]|null} */
    this.sorted = null;
  }

  /** @returns {Node[]} folders first, by name */
  get children() {
    if (!this.sorted) {
      this.sorted = [...byName(this.folders), ...byName(this.datasets)];
      this.sorted.forEach((node, i) => (node.place = i + 1));
    }
    return this.sorted;
  }

  /** @returns {{datasets: number, nbytes: number}} of all that is in it */
  sum() {
    let datasets = this.datasets.size;
    let nbytes = 0;
    for (const { entry } of this.datasets.values()) nbytes += entry.nbytes;
    for (const folder of this.folders.values()) {
      const inner = folder.sum();
      datasets += inner.datasets;
      nbytes += inner.nbytes;
    }
    return { datasets, nbytes };
  }
}

/** A root: its folder, and what is known of its publisher. */
export class Root extends Folder {
  /** @param {string} name */
  constructor(name) {
    super(name, null);
    /** @type {any} what GET /api/roots says of it */
    this.about = {};
    /** @type {"new"|"loading"|"loaded"|"failed"} */
    this.state = "new";
    this.error = "";
    /** @type {Dataset[]} in the order in which they came; some are gone */
    this.all = [];
  }

  clear() {
    this.folders.clear();
    this.datasets.clear();
    this.sorted = null;
    this.all = [];
  }

  /** @param {Entry} entry its path is below the root */
  put(entry) {
    const names = entry.path.split("/");
    const name = names.pop();
    let folder = /** @type {Folder} */ (this);
    for (const each of names) {
      let inner = folder.folders.get(each);
      if (!inner) {
        inner = new Folder(each, folder);
        folder.folders.set(each, inner);
        folder.sorted = null;
      }
      folder = inner;
    }
    const known = folder.datasets.get(name);
    if (known) {
      known.entry = entry;
      return;
    }
    const dataset = new Dataset(name, folder, entry);
    folder.datasets.set(name, dataset);
    folder.sorted = null;
    this.all.push(dataset);
  }

  /** Take a dataset out, and the folders that are empty then. @param {string} path below the root */
  take(path) {
    const dataset = this.find(path);
    if (!(dataset instanceof Dataset)) return;
    dataset.gone = true;
    dataset.parent.datasets.delete(dataset.name);
    let folder = dataset.parent;
    folder.sorted = null;
    while (folder.parent && !folder.datasets.size && !folder.folders.size) {
      folder.parent.folders.delete(folder.name);
      folder = folder.parent;
      folder.sorted = null;
    }
  }

  /** @param {string} path below the root; "" is the root itself @returns {Node|null} */
  find(path) {
    if (!path) return this;
    const names = path.split("/");
    const name = names.pop();
    let folder = /** @type {Folder|undefined} */ (this);
    for (const each of names) folder = folder?.folders.get(each);
    return folder?.datasets.get(name) ?? folder?.folders.get(name) ?? null;
  }
}

/** @template T @param {Map<string, T>} nodes @returns {T[]} */
function byName(nodes) {
  const names = [...nodes.keys()];
  // The server lists them in order; only what came later is out of it.
  if (!names.every((name, i) => !i || names[i - 1] < name)) names.sort();
  return names.map((name) => nodes.get(name));
}

/** @param {Iterable<Root>} roots @returns {Node[]} what is seen of the tree, from the top */
export function visible(roots) {
  const rows = [];
  const walk = (node) => {
    rows.push(node);
    if (node instanceof Folder && node.open) for (const child of node.children) walk(child);
  };
  for (const root of roots) walk(root);
  return rows;
}
