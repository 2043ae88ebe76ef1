// Plain JavaScript, because the types of Node.js are not installed.

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";
export { isDeepStrictEqual } from "node:util";

/**
 * Reads traces from JSON Lines, which may be compressed, one by one: a file may be larger than a string can be.
 *
 * @param {string | URL} file
 * @returns {AsyncGenerator<object>}
 */
export async function* traces(file) {
  const input = createReadStream(file);
  let trace;
  for await (const line of createInterface({ input: `${file}`.endsWith(".gz") ? input.pipe(createGunzip()) : input })) {
    const read = JSON.parse(line);
    if ("trace" in read) {
      if (trace) yield trace;
      trace = { ...read, steps: [] };
    } else trace.steps.push(read);
  }
  if (trace) yield trace;
}
