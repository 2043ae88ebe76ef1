// infra/forget.py: the tests of test_forget.py, with a local mode that requires tokens and limits connections.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { ROOT, startLocal, stopLocal } from "../local.mjs";

const NAME = "/viral-alerts/token";
const SECRET = "the secret of 32 bytes and more that signs tokens";
const PARAMETERS = {
  Authorization: "required",
  TokenSecretParameter: NAME,
  ConnectionsPerAddress: 1_000,
  Rooms: "on",
};

test("one user is forgotten", async (t) => {
  const parameters = Object.entries(PARAMETERS).flatMap(([name, value]) => ["--parameter", `${name}=${value}`]);
  const local = await startLocal([...parameters, "--secret", `${NAME}=${SECRET}`]);
  t.after(() => stopLocal(local));
  const { webSocketAddress, address, variables } = local;
  const env = {
    PATH: process.env.PATH,
    ...variables,
    WEBSOCKET_ADDRESS: webSocketAddress,
    HTTP_ADDRESS: address,
    TOKEN_SECRET: SECRET,
  };
  const python = spawn("python3", ["-B", "-m", "unittest", "-v", "test_forget"], { cwd: `${ROOT}/tests/clients`, env });
  let printed = "";
  for (const stream of [python.stdout, python.stderr]) stream.on("data", (chunk) => (printed += chunk));
  const code = await new Promise((resolve) => python.once("close", resolve));
  assert.equal(code, 0, printed);
  t.diagnostic(/Ran .*/.exec(printed)[0]);
});
