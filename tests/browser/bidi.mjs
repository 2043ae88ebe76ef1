// Firefox, led by WebDriver BiDi. Source: W3C, WebDriver BiDi.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { until } from "./browser.mjs";

const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";

export class Firefox {
  #directory = mkdtempSync(join(tmpdir(), "firefox-"));
  #child;
  #socket;
  #pending = new Map();
  #listeners = new Set();
  #calls = 0;

  static async launch() {
    const firefox = new Firefox();
    await firefox.#start();
    return firefox;
  }

  async #start() {
    // Its viewer of JSON documents lets no script of theirs run.
    writeFileSync(join(this.#directory, "user.js"), 'user_pref("devtools.jsonview.enabled", false);\n');
    const own = ["--headless", "--no-remote", "--remote-debugging-port=0", "--profile", this.#directory];
    this.#child = spawn(FIREFOX, own, { stdio: ["ignore", "ignore", "pipe"] });
    let address;
    for await (const line of createInterface({ input: this.#child.stderr })) {
      address = /^WebDriver BiDi listening on (ws:\S+)$/.exec(line)?.[1];
      if (address) break;
    }
    if (!address) throw new Error("Firefox ended before it said where it listens");
    this.#child.stderr.resume();
    this.#socket = new WebSocket(`${address}/session`);
    this.#socket.on("message", (text) => this.#receive(JSON.parse(text)));
    await once(this.#socket, "open");
    await this.send("session.new", { capabilities: {} });
    await this.send("session.subscribe", { events: ["log.entryAdded"] });
  }

  /** Calls a command and returns its result. */
  send(method, params = {}) {
    const id = ++this.#calls;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject, method }));
  }

  /** Calls `listener` with every event. */
  listen(listener) {
    this.#listeners.add(listener);
  }

  /** Opens a tab. */
  async open(url) {
    const { context } = await this.send("browsingContext.create", { type: "tab" });
    const tab = new Tab(this, context);
    await tab.goto(url);
    return tab;
  }

  async close() {
    const ended = once(this.#child, "exit");
    this.send("browser.close").catch(() => {});
    await ended;
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }

  #receive(message) {
    if (!message.id) return this.#listeners.forEach((listener) => listener(message));
    const { resolve, reject, method } = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.type === "error") reject(new Error(`${method}: ${message.message}`));
    else resolve(message.result);
  }
}

/** A tab, with what the tests call of the one of Chromium. */
class Tab {
  #firefox;
  #context;
  /** Exceptions that no script caught. */
  exceptions = [];

  constructor(firefox, context) {
    this.#firefox = firefox;
    this.#context = context;
    firefox.listen(({ method, params }) => {
      if (method !== "log.entryAdded" || params.source.context !== context) return;
      // What networks refuse is an error of the same type.
      if (params.type === "javascript" && /^(\w*Error|uncaught)\b/.test(params.text)) this.exceptions.push(params.text);
    });
  }

  /** Runs a script in every page of this tab, before those of the page. */
  prepare(source) {
    const functionDeclaration = `() => {${source}}`;
    return this.#firefox.send("script.addPreloadScript", { functionDeclaration, contexts: [this.#context] });
  }

  goto(url) {
    return this.#firefox.send("browsingContext.navigate", { context: this.#context, url, wait: "complete" });
  }

  close() {
    return this.#firefox.send("browsingContext.close", { context: this.#context });
  }

  /** The value of an expression, a promise's when it is one. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.#firefox.send("script.evaluate", {
      expression: `Promise.resolve(${expression}).then(JSON.stringify)`,
      target: { context: this.#context },
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return result.value === undefined ? undefined : JSON.parse(result.value);
  }

  /** Waits until an expression is true, and says what else was there if it never is. */
  until(expression, otherwise = "undefined") {
    return until(
      // While a page loads there may be nothing to ask.
      () => this.evaluate(expression).catch(() => false),
      async () => {
        const found = await this.evaluate(otherwise).catch(String);
        return `never true: ${expression}; ${otherwise}: ${JSON.stringify(found)}`;
      },
    );
  }
}
