// Files and folders out of a drop or a choice, with the paths that they have below it.

/**
 * @typedef {{path: string, file: File}} Found
 */

// A folder with more files is sent with cat2cli.
const MOST = 10000;

/**
 * All files of a drop; folders are walked.
 * @param {DataTransfer} transfer
 * @returns {Promise<Found[]>}
 */
export async function droppedFiles(transfer) {
  // All of it must be taken now: after the event it is gone.
  const entries = [...transfer.items].map((item) => (item.kind === "file" ? item.webkitGetAsEntry?.() ?? item.getAsFile() : null));
  const found = [];
  for (const entry of entries) {
    if (entry instanceof File) found.push({ path: entry.name, file: entry });
    else if (entry) await walk(entry, "", found);
  }
  return found;
}

/** @param {FileList} files of an input @returns {Found[]} */
export function chosenFiles(files) {
  return [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file })).filter(({ path }) => !hidden(path));
}

/** @param {DataTransfer|null} transfer @returns {boolean} whether something is dragged that is a file */
export function hasFiles(transfer) {
  return [...(transfer?.types ?? [])].includes("Files");
}

async function walk(entry, folder, found) {
  const path = folder + entry.name;
  if (found.length >= MOST) throw new Error(`a folder of more than ${MOST} files: send it with cat2cli upload`);
  // What programs for files leave behind; the server takes no such names.
  if (folder && hidden(entry.name)) return;
  if (entry.isFile) {
    found.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return;
    for (const one of batch) await walk(one, `${path}/`, found);
  }
}

function hidden(path) {
  return path.split("/").some((name) => name.startsWith("."));
}
