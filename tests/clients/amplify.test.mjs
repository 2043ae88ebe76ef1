// Amplify's client for Event APIs, over TLS, with signatures that the emulator checks.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ROOT, startLocal, stopLocal } from "../local.mjs";

const run = promisify(execFile);
/** Bound of the session, in milliseconds. */
const WAIT_MAX = 60_000;

test("Amplify connects, subscribes and publishes with a key, a token and signatures", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "viral-alerts-tls-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const [certificate, key] = ["certificate.pem", "key.pem"].map((name) => join(directory, name));
  const made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost".split(" ");
  const names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  await run("openssl", [...made, ...names, "-keyout", key, "-out", certificate]);
  const template = `${ROOT}tests/clients/amplify.yaml`;
  const options = ["--template", template, "--check-signatures", "--tls-cert", certificate, "--tls-key", key];
  const local = await startLocal(options, { program: "apigw-local" });
  t.after(() => stopLocal(local));
  // Node.js reads the certificates that it trusts when it starts.
  const env = {
    ...process.env,
    NODE_EXTRA_CA_CERTS: certificate,
    EVENTS_ENDPOINT: `${local.address}event`,
    EVENTS_KEY: local.variables.EVENTS_KEY,
  };
  await run(process.execPath, [`${ROOT}tests/clients/amplify-session.mjs`], { env, timeout: WAIT_MAX });
});
