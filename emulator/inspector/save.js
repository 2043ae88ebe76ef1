// Saves records as a file.

import { element } from "./dom.js";
import { kept } from "./records.js";
import { clock, day } from "./text.js";

/** Time that the browser has to begin to read the file. */
const KEEP_FILE_MS = 1_000;

/** Saves the records that match the filter as JSON Lines. An invocation contains its answer. */
export function save() {
  const records = kept.records.filter(({ matches }) => matches);
  const lines = records.map(({ matches, unanswered, ...record }) => `${JSON.stringify(record)}\n`);
  const now = new Date();
  const href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  element("a", { href, download: `inspector-${day(now)}T${clock(now).replaceAll(":", "-")}.jsonl` }).click();
  setTimeout(() => URL.revokeObjectURL(href), KEEP_FILE_MS);
}
