// The commands of events/README.md, as they stand there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";
import { ROOT, startLocal, stopLocal } from "../local.mjs";

/** Bound of the commands, in milliseconds. */
const WAIT_MAX = 30_000;

test("curl and cargo-lambda invoke a function with an event", async (t) => {
  const local = await startLocal();
  t.after(() => stopLocal(local));
  const readme = readFileSync(`${ROOT}/events/README.md`, "utf8");
  const [, script] = /^```sh\n(.*?)^```$/ms.exec(readme);
  const address = local.address.replace(/\/$/, "");
  const options = { cwd: ROOT, timeout: WAIT_MAX };
  const commands = script.replace("http://127.0.0.1:8766", address);
  assert.notEqual(commands, script);
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", commands], options);
  const [first, second] = stdout.match(/\{"statusCode".*?\}"\}/g).map((text) => JSON.parse(JSON.parse(text).body));
  assert.deepEqual([first.published, first.seq], [true, 1]);
  assert.deepEqual([second.published, second.seq], [true, 2]);
});
