// Clients in Python: the tests of test_clients.py and test_ours.py, with the variables that the local mode prints.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { ROOT, startLocal, stopLocal } from "../local.mjs";

test("clients in Python", async (t) => {
  const local = await startLocal();
  t.after(() => stopLocal(local));
  const { webSocketAddress, address, variables } = local;
  const env = { PATH: process.env.PATH, ...variables, WEBSOCKET_ADDRESS: webSocketAddress, HTTP_ADDRESS: address };
  const python = spawn("python3", ["-B", "-m", "unittest", "-v", "test_clients", "test_ours"], {
    cwd: `${ROOT}/tests/clients`,
    env,
  });
  let printed = "";
  for (const stream of [python.stdout, python.stderr]) stream.on("data", (chunk) => (printed += chunk));
  const code = await new Promise((resolve) => python.once("close", resolve));
  assert.equal(code, 0, printed);
  t.diagnostic(/Ran .*/.exec(printed)[0]);
});
