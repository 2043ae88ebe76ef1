// Chromium led by its DevTools protocol alone. Playwright keeps every page focused, so with it none is ever hidden or frozen.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ARGUMENTS, CHROMIUM, SCREENSHOTS, until } from "./browser.mjs";

export class Devtools {
  #child;
  #directory = mkdtempSync(join(tmpdir(), "chromium-"));
  #pending = new Map();
  #listeners = new Set();
  #calls = 0;

  constructor() {
    mkdirSync(SCREENSHOTS, { recursive: true });
    const own = ["--headless", "--remote-debugging-pipe", "--window-size=900,650", `--user-data-dir=${this.#directory}`];
    this.#child = spawn(CHROMIUM, [...ARGUMENTS, ...own, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    let text = "";
    this.#child.stdio[4].setEncoding("utf8").on("data", (chunk) => {
      const messages = (text + chunk).split("\0");
      text = messages.pop();
      for (const message of messages) this.#receive(JSON.parse(message));
    });
  }

  /** Calls a method and returns its result. */
  send(method, params = {}, sessionId = undefined) {
    const id = ++this.#calls;
    this.#child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject, method }));
  }

  /** Calls `listener` with every event. */
  listen(listener) {
    this.#listeners.add(listener);
  }

  /** Opens a tab in front of the others. */
  async open(url) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const tab = new Tab(this, targetId, sessionId);
    await tab.send("Page.enable");
    await tab.send("Runtime.enable");
    await tab.send("Network.enable");
    await tab.goto(url);
    return tab;
  }

  async close() {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.send("Browser.close").catch(() => {});
    await ended;
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }

  #receive(message) {
    if (!message.id) return this.#listeners.forEach((listener) => listener(message));
    const { resolve, reject, method } = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.error) reject(new Error(`${method}: ${message.error.message}`));
    else resolve(message.result);
  }
}

export class Tab {
  #devtools;
  #targetId;
  #sessionId;
  /** Exceptions that no script caught. */
  exceptions = [];
  /** Addresses of the WebSockets that were opened. */
  sockets = [];

  constructor(devtools, targetId, sessionId) {
    this.#devtools = devtools;
    this.#targetId = targetId;
    this.#sessionId = sessionId;
    devtools.listen(({ method, params, sessionId: from }) => {
      if (from !== sessionId) return;
      if (method === "Runtime.exceptionThrown") this.exceptions.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      if (method === "Network.webSocketCreated") this.sockets.push(params.url);
    });
  }

  send(method, params) {
    return this.#devtools.send(method, params, this.#sessionId);
  }

  /** Runs a script in every page of this tab, before those of the page. */
  prepare(source) {
    return this.send("Page.addScriptToEvaluateOnNewDocument", { source });
  }

  goto(url) {
    return this.send("Page.navigate", { url });
  }

  /** Puts the tab in front of the others: it is visible then, and they are hidden. */
  show() {
    return this.#devtools.send("Target.activateTarget", { targetId: this.#targetId });
  }

  close() {
    return this.#devtools.send("Target.closeTarget", { targetId: this.#targetId });
  }

  freeze() {
    return this.send("Page.setWebLifecycleState", { state: "frozen" });
  }

  unfreeze() {
    return this.send("Page.setWebLifecycleState", { state: "active" });
  }

  /** Takes the network away from the page, or gives it back. */
  offline(offline) {
    return this.send("Network.emulateNetworkConditions", { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  }

  /** The value of an expression, a promise's when it is one. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
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

  async screenshot(name) {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    writeFileSync(join(SCREENSHOTS, `${name}.png`), Buffer.from(data, "base64"));
  }
}
