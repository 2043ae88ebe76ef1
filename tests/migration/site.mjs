// What a migrated project needs: the service, a Redis with the bridge for some, and the project's own programs.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { ROOT, startLocal, stopLocal } from "../local.mjs";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));
/** Bound of every wait, in milliseconds. Long enough to compile a Java program. */
const WAIT_MAX = 30_000;

const TOKEN_SECRET_NAME = "/viral-alerts/token";
const WEBHOOK_SECRET_NAME = "/viral-alerts/webhook";
/** The secret of the project's own tokens. */
export const TOKEN_SECRET = "the secret of 32 bytes and more that signs tokens";
/** The secret that a publisher without AWS credentials gets. */
export const WEBHOOK_SECRET = `whsec_${Buffer.from("a secret of publishers, 24+ bytes").toString("base64")}`;
/** Parameters of the template that require a token. */
export const TOKENS = { Authorization: "required", TokenSecretParameter: TOKEN_SECRET_NAME };
/** Parameters of the template that accept signed webhooks. */
export const WEBHOOKS = { WebhookSecretParameter: WEBHOOK_SECRET_NAME };

/** The local mode with these parameters of the template, until the test ends. */
export async function startService(t, parameters = {}, flags = []) {
  const secrets = [`${TOKEN_SECRET_NAME}=${TOKEN_SECRET}`, `${WEBHOOK_SECRET_NAME}=${WEBHOOK_SECRET}`];
  const args = [
    ...Object.entries(parameters).flatMap(([name, value]) => ["--parameter", `${name}=${value}`]),
    ...secrets.flatMap((secret) => ["--secret", secret]),
    ...flags,
  ];
  const local = await startLocal(args);
  t.after(() => stopLocal(local));
  return { ...local, stop: () => stopLocal(local) };
}

/** Takes an alert back. */
export async function takeBack(service, region, seq) {
  const answer = await fetch(`${service.address}alerts/${region}/${seq}`, { method: "DELETE" });
  assert.equal((await answer.json()).removed, true);
}

/** A Redis of its own, and the bridge between its channels and the service, until the test ends. */
export async function startRedis(t, service, flags = []) {
  const directory = await mkdtemp(`${tmpdir()}/migration-`);
  t.after(() => rm(directory, { recursive: true }));
  const socket = `${directory}/redis.sock`;
  const server = new Program(t, "redis-server", [
    "--port",
    "0",
    "--unixsocket",
    socket,
    "--save",
    "",
    "--dir",
    directory,
  ]);
  await server.prints(/ready to accept connections/i);
  const bridge = new Program(t, `${ROOT}/target/debug/bridge`, [
    ...["--redis-url", `redis+unix://${socket}`, "--publish-url", `${service.address}publish`, "--log", "bridge=debug"],
    ...flags,
  ]);
  await bridge.prints(/"message":"subscribed"/);
  return { socket, bridge };
}

/** A program of the project and its output. It is killed when the test ends. */
export class Program {
  #child;
  #name;
  #lines = [];
  #errors = "";
  #status;
  #events = new EventEmitter();

  constructor(t, command, args, variables = {}) {
    const { PATH, HOME } = process.env;
    // Without these, Python buffers its output, and Java 17 writes in the encoding of the locale.
    const env = { PATH, HOME, LANG: "C.UTF-8", PYTHONUNBUFFERED: "1", PYTHONDONTWRITEBYTECODE: "1", ...variables };
    this.#name = [command, ...args].join(" ");
    this.#child = spawn(command, args, { cwd: FOLDER, env });
    let rest = "";
    this.#child.stdout.setEncoding("utf8").on("data", (chunk) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      this.#lines.push(...lines);
      this.#events.emit("changed");
    });
    this.#child.stderr.setEncoding("utf8").on("data", (chunk) => (this.#errors += chunk));
    const ended = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        this.#errors += error;
        resolve(-1);
      });
      this.#child.once("close", resolve);
    });
    ended.then((status) => {
      this.#status = status;
      this.#events.emit("changed");
    });
    t.after(() => {
      this.#child.kill("SIGKILL");
      return ended;
    });
  }

  /** The lines printed so far. */
  get lines() {
    return [...this.#lines];
  }

  /** Waits for the line number `times` that matches, and returns it. */
  prints(pattern, times = 1) {
    return this.#until(`${pattern}, ${times} times`, () => {
      const found = this.#lines.filter((line) => pattern.test(line))[times - 1];
      if (found === undefined && this.#status !== undefined) throw new Error(this.#report(pattern));
      return found;
    });
  }

  /** Waits for its end, and returns its exit status. */
  ends() {
    return this.#until("its end", () => this.#status);
  }

  /** Waits for its end with status 0, and returns its lines. */
  async succeeds() {
    if ((await this.ends()) !== 0) throw new Error(this.#report("a good end"));
    return this.lines;
  }

  /** Types a line. */
  type(line) {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Ends its standard input. */
  closeInput() {
    this.#child.stdin.end();
  }

  async #until(what, condition) {
    const signal = AbortSignal.timeout(WAIT_MAX);
    for (;;) {
      const met = condition();
      if (met !== undefined) return met;
      await once(this.#events, "changed", { signal }).catch((error) => {
        throw new Error(this.#report(what), { cause: error });
      });
    }
  }

  #report(what) {
    return `waited for ${what}: ${this.#name}, status ${this.#status}\n${this.#lines.join("\n")}\n${this.#errors}`;
  }
}
