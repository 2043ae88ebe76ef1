// Firefox, led by WebDriver BiDi. Source: W3C, WebDriver BiDi.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { RemoteBrowser, RemoteTab } from "./remote.mjs";

const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";

export class Firefox extends RemoteBrowser {
  static async launch() {
    const firefox = new Firefox("browser.close");
    await firefox.#start();
    return firefox;
  }

  async #start() {
    // Its viewer of JSON documents does not run the tests' scripts, and it comes without Trusted Types.
    const preferences = { "devtools.jsonview.enabled": false, "dom.security.trusted_types.enabled": true };
    const lines = Object.entries(preferences).map(([name, value]) => `user_pref("${name}", ${value});\n`);
    writeFileSync(join(this.directory, "user.js"), lines.join(""));
    const own = ["--headless", "--no-remote", "--remote-debugging-port=0", "--profile", this.directory];
    this.child = spawn(FIREFOX, own, { stdio: ["ignore", "ignore", "pipe"] });
    let address;
    for await (const line of createInterface({ input: this.child.stderr })) {
      address = /^WebDriver BiDi listening on (ws:\S+)$/.exec(line)?.[1];
      if (address) break;
    }
    if (!address) throw new Error("Firefox ended before it printed its address");
    this.child.stderr.resume();
    const socket = new WebSocket(`${address}/session`);
    socket.on("message", (text) => this.receive(JSON.parse(text)));
    await once(socket, "open");
    this.write = (message) => socket.send(JSON.stringify(message));
    await this.send("session.new", { capabilities: {} });
    await this.send("session.subscribe", { events: ["log.entryAdded"] });
  }

  /** Opens a tab behind another one, so that it is hidden, and returns it with a function that shows it. */
  async openBehind(url) {
    const tab = await this.open(url, { background: true });
    return { tab, show: () => tab.show() };
  }

  /** Opens a tab. */
  async open(url, { background = false } = {}) {
    const { context } = await this.send("browsingContext.create", { type: "tab", background });
    const tab = new Tab(this, context);
    await tab.goto(url);
    return tab;
  }
}

/** A tab, with those methods of Chromium's tab that the tests of both browsers call. */
class Tab extends RemoteTab {
  #firefox;
  #context;

  constructor(firefox, context) {
    super();
    this.#firefox = firefox;
    this.#context = context;
    firefox.listen(({ method, params }) => {
      if (method !== "log.entryAdded" || params.source.context !== context) return;
      const { type, text, stackTrace } = params;
      // Requests that fail are logged as errors of the same type.
      if (type !== "javascript" || !/^(\w*Error|uncaught)\b/.test(text)) return;
      // Firefox's own agent logs this, without a stack, if a page goes while it reads a value there.
      if (!stackTrace && text.startsWith("Error: Permission denied to access property")) return;
      this.exceptions.push(text);
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

  /** Puts the tab in front of the others. */
  show() {
    return this.#firefox.send("browsingContext.activate", { context: this.#context });
  }

  close() {
    return this.#firefox.send("browsingContext.close", { context: this.#context });
  }

  async evaluate(expression) {
    const { result, exceptionDetails } = await this.#firefox.send("script.evaluate", {
      expression: `Promise.resolve(${expression}).then(JSON.stringify)`,
      target: { context: this.#context },
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return result.value === undefined ? undefined : JSON.parse(result.value);
  }
}
