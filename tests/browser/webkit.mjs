// WebKitGTK, led by WebDriver, on a screen that nobody sees. Sources: W3C, WebDriver; WebKit's Tools/MiniBrowser.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { until } from "./browser.mjs";
import { RemoteTab } from "./remote.mjs";

const DRIVER = process.env.WEBKIT_DRIVER ?? "/usr/bin/WebKitWebDriver";
const START_MAX_MS = 20_000;

/** Has a page keep its exceptions, which WebDriver does not tell. */
const LISTENING = `
  window.exceptions = [];
  addEventListener("error", ({ message }) => exceptions.push(message));
  addEventListener("unhandledrejection", ({ reason }) => exceptions.push(String(reason)));`;

export class WebKit {
  #screen;
  #driver;
  #address;
  #session;
  /** The window that the session begins with. It stays, as the session would end with the last one. */
  #first;
  /** Resolves when no command runs. A command applies to the window that was chosen last. */
  #idle = Promise.resolve();

  static async launch() {
    const webKit = new WebKit();
    try {
      await webKit.#start();
      return webKit;
    } catch (error) {
      await webKit.close();
      throw error;
    }
  }

  async #start() {
    const options = ["-displayfd", "3", "-screen", "0", "1280x900x24", "-nolisten", "tcp"];
    this.#screen = spawn("Xvfb", options, { stdio: ["ignore", "ignore", "ignore", "pipe"] });
    const named = once(this.#screen.stdio[3], "data", { signal: AbortSignal.timeout(START_MAX_MS) });
    const ended = once(this.#screen, "exit").then(([code]) => {
      throw new Error(`Xvfb ended with ${code}`);
    });
    // It also ends when it is no longer needed.
    ended.catch(() => {});
    const [display] = await Promise.race([named, ended]);
    const env = { ...process.env, DISPLAY: `:${String(display).trim()}`, GDK_BACKEND: "x11" };
    const port = await freePort();
    this.#driver = spawn(DRIVER, [`--port=${port}`], { env, stdio: "ignore" });
    this.#address = `http://127.0.0.1:${port}`;
    const isReady = () => fetch(`${this.#address}/status`).then(({ ok }) => ok, () => false);
    await until(isReady, () => "WebKitWebDriver does not listen");
    const { sessionId } = await this.#call("POST", "/session", { capabilities: {} });
    this.#session = `/session/${sessionId}`;
    this.#first = await this.send(undefined, "GET", "/window");
  }

  /** Calls a command and returns its value. */
  async #call(method, path, body) {
    const response = await fetch(`${this.#address}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
    return value;
  }

  /** Calls a command in a window. */
  send(handle, method, path, body) {
    const called = this.#idle.then(async () => {
      if (handle) await this.#call("POST", `${this.#session}/window`, { handle });
      return this.#call(method, `${this.#session}${path}`, body);
    });
    this.#idle = called.catch(() => {});
    return called;
  }

  /** Opens a tab of a window of its own, so that it is visible. */
  open(url) {
    return this.#open(this.#first, "window", url);
  }

  /** Opens a tab behind another one, so that it is hidden, and returns it with a function that shows it. */
  async openBehind(url) {
    const front = await this.open("about:blank");
    const tab = await this.#open(front.handle, "tab", url);
    return { tab, show: () => front.close() };
  }

  async #open(beside, type, url) {
    const { handle } = await this.send(beside, "POST", "/window/new", { type });
    const tab = new Tab(this, handle);
    await tab.goto(url);
    return tab;
  }

  async close() {
    if (this.#session) await this.send(undefined, "DELETE", "").catch(() => {});
    for (const child of [this.#driver, this.#screen]) {
      if (!child || (child.exitCode ?? child.signalCode) !== null) continue;
      const ended = once(child, "exit");
      child.kill();
      await ended;
    }
  }
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

class Tab extends RemoteTab {
  #webKit;
  #source = "";

  constructor(webKit, handle) {
    super();
    this.#webKit = webKit;
    this.handle = handle;
  }

  #send(method, path, body) {
    return this.#webKit.send(this.handle, method, path, body);
  }

  /** Runs a script in every page of this tab. WebDriver can do that only once the page is loaded. */
  prepare(source) {
    this.#source = `${LISTENING}${source}; dispatchEvent(new Event("DOMContentLoaded"));`;
  }

  async goto(url) {
    await this.#send("POST", "/url", { url });
    if (this.#source) await this.#send("POST", "/execute/sync", { script: this.#source, args: [] });
  }

  evaluate(expression) {
    const script = `return Promise.resolve(${expression})`;
    return this.#send("POST", "/execute/sync", { script, args: [] });
  }

  async close() {
    this.exceptions.push(...(await this.evaluate("window.exceptions ?? []")));
    await this.#send("DELETE", "/window");
  }
}
