// The example for React in Next.js, with the client as npm installs it: rendered by the server, and in Chromium.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createInterface } from "node:readline";
import { launchBrowser } from "../browser/browser.mjs";
import { showsAlerts } from "../browser/showing.mjs";
import { ROOT, startLocal, stopLocal } from "../local.mjs";
import { installClient, linkPackages } from "../npm.mjs";

const OWN = join(ROOT, "tests/next");

/** Bound of a build, in milliseconds. */
const WAIT_MAX = 300_000;

/** In CI a build installs nothing by itself. */
const ENVIRONMENT = { ...process.env, CI: "1", NEXT_TELEMETRY_DISABLED: "1" };

let application;
let browser;
let local;
before(async () => {
  // Turbopack reads nothing outside of its root, to which the links lead.
  mkdirSync(join(ROOT, "target/next"), { recursive: true });
  application = mkdtempSync(join(ROOT, "target/next/"));
  installClient(application);
  const { devDependencies } = JSON.parse(readFileSync(join(OWN, "package.json"), "utf8"));
  const names = Object.keys(devDependencies).map((name) => name.split("/")[0]);
  linkPackages(application, join(OWN, "node_modules"), [".bin", ...new Set(names)]);
  cpSync(join(OWN, "app"), join(application, "app"), { recursive: true });
  const component = readFileSync(join(ROOT, "examples/react/src/Alerts.tsx"), "utf8");
  writeFileSync(join(application, "app/Alerts.tsx"), `"use client";\n\n${component}`);
  const settings = { turbopack: { root: ROOT } };
  writeFileSync(join(application, "next.config.mjs"), `export default ${JSON.stringify(settings)};\n`);
  local = await startLocal();
  browser = await launchBrowser();
});
after(async () => {
  await browser?.close();
  if (local) await stopLocal(local);
  if (application) rmSync(application, { recursive: true });
});

const next = (...args) => [process.execPath, [join(application, "node_modules/next/dist/bin/next"), ...args]];

/** Starts what was built, on a free port, and returns its address. */
async function start(t) {
  const env = { ...ENVIRONMENT, ALERTS_URL: local.webSocketAddress, ALERTS_HTTP_URL: local.address };
  const server = spawn(...next("start", "--hostname", "localhost", "--port", "0"), {
    cwd: application,
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(server, "exit");
  t.after(async () => {
    server.kill();
    await ended;
  });
  let address;
  for await (const line of createInterface({ input: server.stdout })) {
    address ??= /http:\/\/localhost:\d+/.exec(line)?.[0];
    if (address && line.includes("Ready")) return address;
  }
  throw new Error("next start ended without being ready");
}

for (const bundler of ["turbopack", "webpack"]) {
  test(`${bundler}: the server renders the page, and the browser shows alerts in it`, async (t) => {
    const [program, args] = next("build", `--${bundler}`);
    execFileSync(program, args, { cwd: application, env: ENVIRONMENT, stdio: "inherit", timeout: WAIT_MAX });
    const address = await start(t);
    const html = await (await fetch(address)).text();
    assert.match(html, /<h1>What goes viral<\/h1>.*<viral-toast><\/viral-toast>/);
    await showsAlerts(t, browser, local, address);
  });
}
