// The local mode as a person starts it, and Chromium.

import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];

export const SCREENSHOTS = `${ROOT}/target/screenshots`;

export function launchBrowser() {
  mkdirSync(SCREENSHOTS, { recursive: true });
  return chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
}

/** Starts the local mode and returns it with the two addresses of its `ready` line. */
export async function startLocal(wsAddress, httpAddress) {
  const child = spawn(`${ROOT}/target/debug/local`, ["--ws-addr", wsAddress, "--http-addr", httpAddress], { cwd: ROOT, stdio: ["ignore", "pipe", "ignore"] });
  for await (const line of createInterface({ input: child.stdout })) {
    const ready = /^ready (ws:\S+) (http:\S+)/.exec(line);
    if (ready) return { child, webSocketAddress: ready[1], address: ready[2] };
  }
  throw new Error("the local mode ended without being ready");
}

export async function stopLocal({ child }) {
  if (child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGINT");
  await ended;
}
