// Chromium, led by its DevTools protocol. Playwright keeps every page focused, so its pages are never hidden or frozen.

import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ARGUMENTS, CHROMIUM, SCREENSHOTS } from "./browser.mjs";
import { RemoteBrowser, RemoteTab } from "./remote.mjs";

export class Devtools extends RemoteBrowser {
  constructor() {
    super("Browser.close");
    mkdirSync(SCREENSHOTS, { recursive: true });
    const own = ["--headless", "--remote-debugging-pipe", "--window-size=900,650", `--user-data-dir=${this.directory}`];
    const stdio = ["ignore", "ignore", "ignore", "pipe", "pipe"];
    this.child = spawn(CHROMIUM, [...ARGUMENTS, ...own, "about:blank"], { stdio });
    this.write = (message) => this.child.stdio[3].write(`${JSON.stringify(message)}\0`);
    let text = "";
    this.child.stdio[4].setEncoding("utf8").on("data", (chunk) => {
      const messages = (text + chunk).split("\0");
      text = messages.pop();
      for (const message of messages) this.receive(JSON.parse(message));
    });
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
}

class Tab extends RemoteTab {
  #devtools;
  #targetId;
  #sessionId;
  /** Addresses of the WebSockets that were opened. */
  sockets = [];

  constructor(devtools, targetId, sessionId) {
    super();
    this.#devtools = devtools;
    this.#targetId = targetId;
    this.#sessionId = sessionId;
    devtools.listen(({ method, params, sessionId: from }) => {
      if (from !== sessionId) return;
      if (method === "Runtime.exceptionThrown") this.exceptions.push(textOf(params.exceptionDetails));
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

  /** Puts the tab in front of the others. Then it is visible, and they are hidden. */
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
    const conditions = { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
    return this.send("Network.emulateNetworkConditions", conditions);
  }

  async evaluate(expression) {
    const params = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", params);
    if (exceptionDetails) throw new Error(textOf(exceptionDetails));
    return result.value;
  }

  async screenshot(name) {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    writeFileSync(join(SCREENSHOTS, `${name}.png`), Buffer.from(data, "base64"));
  }
}

function textOf({ exception, text }) {
  return exception?.description ?? text;
}
