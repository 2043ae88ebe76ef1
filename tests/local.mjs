// Starts the local mode as you do in a terminal, and reads its output.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));

/**
 * Starts the local mode, on free ports unless `args` name others, and returns it with the two addresses of its `ready`
 * line and the variables that lead other programs to it. What it logs goes to `log`, as in the option `stdio` of
 * Node.js.
 */
export async function startLocal(args = [], { program = "viral-alerts-local", directory = ROOT, log = "ignore" } = {}) {
  const addresses = args.includes("--ws-addr") ? [] : ["--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
  const child = spawn(`${ROOT}/target/debug/${program}`, [...addresses, ...args], {
    cwd: directory,
    stdio: ["ignore", "pipe", log],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const ready = /^ready (wss?:\S+) (https?:\S+)/.exec(line);
    if (ready) {
      const [, webSocketAddress, address] = ready;
      // Its port takes plain HTTP too, for which no certificate has to be trusted.
      const plain = address.replace(/^https:/, "http:");
      const exported = (await (await fetch(`${plain}inspector/env`)).text()).matchAll(/^export (\w+)=(.*)$/gm);
      const variables = Object.fromEntries([...exported].map(([, name, value]) => [name, value]));
      return { child, webSocketAddress, address, variables };
    }
  }
  throw new Error("the local mode ended without being ready");
}

/** Stops it as Ctrl-C does, and waits for its end. */
export async function stopLocal({ child }) {
  if (child.exitCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGINT");
  await ended;
}

/** A local mode that can be killed and started again at the same addresses, with the same tables. */
export class Restartable {
  #directory = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "viral-alerts-"));
  local;

  async start(args = []) {
    const { webSocketAddress, address } = this.local ?? {};
    const again = address ? ["--ws-addr", new URL(webSocketAddress).host, "--http-addr", new URL(address).host] : [];
    this.local = await startLocal([...args, ...again, "--data-dir", this.#directory]);
  }

  async kill() {
    const ended = once(this.local.child, "exit");
    this.local.child.kill("SIGKILL");
    await ended;
  }

  async end() {
    await stopLocal(this.local);
    rmSync(this.#directory, { recursive: true });
  }
}

/** Publishes an alert at the address that the `ready` line names, and returns the answer. */
export async function publish(address, region, video = {}, headers = {}) {
  const body = JSON.stringify({ region, video: { id: "v1", title: "Tytuł", thumbnail: null, score: 97, ...video } });
  const response = await fetch(address, { method: "POST", headers, body });
  return response.json();
}
