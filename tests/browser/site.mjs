// The local mode with the tabs of one browser that a test opens on it, and what their applications were told.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { Restartable, publish } from "../local.mjs";
import { until } from "./browser.mjs";

/** Counts the WebSockets of a page in `sockets`. */
const COUNTING = `
    window.sockets = [];
    window.WebSocket = class extends WebSocket {
      constructor(url, ...protocols) {
        super(url, ...protocols);
        sockets.push(url);
      }
    };`;

/** A page of its own around the client: keeps what it was told in `told` and `states`, and shows it. */
function application(options) {
  return `
    window.told = [];
    window.states = [];
    window.errors = [];
    window.subscribed = [];
    if (location.protocol !== "about:") addEventListener("DOMContentLoaded", async () => {
      const { ViralAlerts } = await import("/viral-alerts.js");
      document.body.innerHTML = "<h1></h1><p></p><ol></ol>";
      const tell = (text) => {
        told.push(text);
        const item = document.createElement("li");
        item.textContent = text;
        document.querySelector("ol").append(item);
      };
      const { watches = [], ...options } = ${JSON.stringify(options)};
      const alerts = new ViralAlerts(options);
      for (const region of watches) alerts.watch(region);
      alerts.addEventListener("subscribed", ({ detail: { region } }) => subscribed.push(region));
      alerts.addEventListener("alert", ({ detail: { region, seq } }) => tell(region + " " + seq));
      alerts.addEventListener("gap", ({ detail: { region, from, to } }) => tell(region + " gap " + from + "-" + to));
      alerts.addEventListener("error", ({ detail: { code, message } }) => errors.push([code, message]));
      alerts.addEventListener("state", ({ detail: { state, transport } }) => {
        states.push(transport && transport !== "websocket" ? transport : state);
        document.querySelector("h1").textContent = states.at(-1);
        document.querySelector("p").textContent = states.join(", ");
      });
    });`;
}

/** A local mode whose tables survive a restart, and the tabs that are opened on it. */
export class Site extends Restartable {
  #args;
  #browser;
  #tabs = [];

  constructor(browser, args) {
    super();
    this.#browser = browser;
    this.#args = args;
  }

  /** Starts a site for one test, whose tabs are opened in `browser`. */
  static async on(t, browser, ...args) {
    const site = new Site(browser, args);
    t.after(() => site.end());
    await site.start();
    return site;
  }

  /** Starts the local mode, the second time where it was. */
  start() {
    return super.start(this.#args);
  }

  /** Opens a tab whose application watches `PL`, and waits until it is connected. `page` is one of another server. */
  async open(options = {}, page = undefined) {
    const tab = await this.openUnconnected(options, page);
    await tab.until(`states.some((state) => ["open", "polling"].includes(state))`, "[states, errors]");
    return tab;
  }

  openUnconnected(options, page) {
    return this.openBare(this.#application(options), page);
  }

  /** Opens a tab like `open`, but behind another one, and returns it with a function that shows it. */
  async openBehind(options) {
    const { tab, show } = await this.#browser.openBehind("about:blank");
    await this.#load(tab, this.#application(options));
    return { tab, show };
  }

  /** Opens a tab with an empty page of this site that counts its `sockets`. `source` runs in it first. */
  async openBare(source, page) {
    const tab = await this.#browser.open("about:blank");
    await this.#load(tab, source, page);
    return tab;
  }

  #application(options) {
    const { address, webSocketAddress } = this.local;
    const usual = { url: webSocketAddress, httpUrl: address, regions: ["PL"], reconnectWithinMs: 200 };
    return application({ ...usual, ...options });
  }

  async #load(tab, source = "", page = `${this.local.address}health`) {
    this.#tabs.push(tab);
    await tab.prepare(`${COUNTING}${source}`);
    await tab.goto(page);
    await tab.until("window.sockets && document.body");
  }

  async publish(times = 1, region = "PL") {
    for (let time = 0; time < times; time++) {
      const { published } = await publish(this.local.address, region);
      assert.equal(published, true);
    }
  }

  async end() {
    for (const tab of this.#tabs) await tab.close().catch(() => {});
    await super.end();
    for (const tab of this.#tabs) assert.deepEqual(tab.exceptions, [], "a script of a tab failed");
  }
}

/** Waits for the alerts `from` to `to` of the region, and for nothing else. */
export async function hasTold(tab, from, to) {
  const expected = Array.from({ length: to - from + 1 }, (_, index) => `PL ${from + index}`);
  await tab.until(`told.length >= ${expected.length}`, "told");
  assert.deepEqual(await tab.evaluate("told"), expected);
}

export const isOpen = (tab) => tab.until(`states.at(-1) === "open"`, "states");

/** Waits until the gateway has connections that watch these audiences, sorted, and no others. */
export async function hasConnections({ local }, ...expected) {
  let found;
  const look = async () => {
    const { connections } = await (await fetch(`${local.address}local.json`)).json();
    found = connections.map(({ audiences }) => audiences.join()).sort();
    return found.join(";") === expected.join(";");
  };
  await until(look, () => `connections: ${found.join("; ")}`);
}

/** A client that is closed in the tick that made it opens no connection, and one that follows it at once opens one. */
export async function leaksNothing(site) {
  const after = async (region, script) => {
    // A new page: in one that has had a lock before, Chromium notices an aborted request in time.
    const tab = await site.openBare();
    await tab.evaluate(`import("/viral-alerts.js").then(({ ViralAlerts }) => {
      const url = ${JSON.stringify(site.local.webSocketAddress)};
      const start = () => new ViralAlerts({ url, share: "${region}", regions: "${region}" });
      ${script}
      // The lock manager answers the clients' requests before this one.
      return navigator.locks.request("last", () => {});
    })`);
    return tab;
  };
  const never = [
    await after("DE", "start().close();"),
    await after("CZ", "for (let time = 0; time < 10; time++) start().close();"),
  ];
  // As React does in its strict mode.
  const strict = await after("FR", "start().close(); window.kept = start();");
  await strict.until(`kept.state.state === "open"`, "kept.state");
  const opened = await Promise.all([...never, strict].map((tab) => tab.evaluate("sockets.length")));
  assert.deepEqual(opened, [0, 0, 1]);
  await hasConnections(site, "FR");
}

/** The client tells a page whose origin `AllowedOrigins` does not name. */
export async function tellsOfCors(t, browser) {
  const site = await Site.on(t, browser, "--parameter", "AllowedOrigins=https://www.example.com");
  const { origin, port } = new URL(site.local.address);
  // Another name of the same server is another origin.
  const httpUrl = `http://localhost:${port}`;
  const tab = await site.openUnconnected({ httpUrl });
  await tab.until("errors.length", "states");
  const message = `cannot read ${httpUrl}: does AllowedOrigins name ${origin}?`;
  assert.deepEqual(await tab.evaluate("errors"), [["http", message]]);
}

/** A token lets a client in, and no address contains it. */
export async function sendsItsToken(t, browser) {
  const name = "/viral-alerts/token";
  const secret = "the secret of 32 bytes and more that signs tokens";
  const parameters = ["--parameter", "Authorization=required", "--parameter", `TokenSecretParameter=${name}`];
  const site = await Site.on(t, browser, ...parameters, "--secret", `${name}=${secret}`);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { exp: Math.floor(Date.now() / 1_000) + 600, regions: ["PL"] };
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  const token = `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  const tab = await site.open({ token });
  await site.publish();
  await hasTold(tab, 1, 1);
  assert.deepEqual(await tab.evaluate("[states, sockets]"), [["open"], [site.local.webSocketAddress]]);
}
