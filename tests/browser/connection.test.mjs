// The client in a real Chromium: what networks, browsers and gateways do to a connection.
//
// Screenshots are kept in target/screenshots.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { after, before, test } from "node:test";
import { ROOT } from "../local.mjs";
import { Devtools } from "./devtools.mjs";
import { losesNothing } from "./everywhere.mjs";
import { startProxy } from "./proxy.mjs";
import { Site, hasTold, isOpen, leaksNothing, sendsItsToken, tellsOfCors } from "./site.mjs";

let devtools;

before(() => {
  devtools = new Devtools();
});
after(() => devtools?.close());

test("offline and online: what was published in between is shown once", async (t) => {
  const site = await Site.on(t, devtools);
  const tab = await site.open();
  await site.publish();
  await hasTold(tab, 1, 1);
  await tab.offline(true);
  await tab.until(`states.includes("offline")`, "states");
  await tab.screenshot("client-offline");
  await site.publish(2);
  await tab.offline(false);
  await isOpen(tab);
  await site.publish();
  await hasTold(tab, 1, 4);
  await tab.screenshot("client-online-again");
});

test("hidden and shown: the connection is given up after a while, and resumes from its position", async (t) => {
  const site = await Site.on(t, devtools);
  const tab = await site.open({ hiddenMs: 300 });
  await site.publish();
  await hasTold(tab, 1, 1);
  const other = await devtools.open("about:blank");
  t.after(() => other.close());
  await tab.until(`document.hidden && states.at(-1) === "paused"`, "states");
  await site.publish(3);
  assert.equal(tab.sockets.length, 1);
  await tab.show();
  await isOpen(tab);
  await hasTold(tab, 1, 4);
  assert.equal(tab.sockets.length, 2);
  await tab.screenshot("client-shown-again");
});

test("frozen and running again: nothing is lost or repeated", async (t) => {
  const site = await Site.on(t, devtools);
  const tab = await site.open();
  await site.publish();
  await hasTold(tab, 1, 1);
  const other = await devtools.open("about:blank");
  t.after(() => other.close());
  await tab.freeze();
  await site.publish(3);
  await tab.unfreeze();
  await tab.show();
  await isOpen(tab);
  await hasTold(tab, 1, 4);
  assert.equal(await tab.evaluate(`states.includes("paused")`), true);
  await tab.screenshot("client-unfrozen");
});

test("two tabs share a connection; when the leading one closes the other takes over", async (t) => {
  const site = await Site.on(t, devtools);
  const first = await site.open();
  const second = await site.open();
  await site.publish(2);
  await hasTold(first, 1, 2);
  await hasTold(second, 1, 2);
  assert.deepEqual([first.sockets.length, second.sockets.length], [1, 0]);
  await first.close();
  await site.publish(3);
  await second.until(`told.length === 5 && states.at(-1) === "open"`, "[told, states]");
  await site.publish();
  await hasTold(second, 1, 6);
  assert.equal(second.sockets.length, 1);
  await second.screenshot("client-second-tab-leads");
});

test("a second tab that watches as soon as it has a client is served, however often", async (t) => {
  const site = await Site.on(t, devtools);
  await site.open();
  // Which of the two asks for its lock first is a race.
  for (let seq = 1; seq <= 10; seq++) {
    const second = await site.open({ regions: [], watches: ["DE"] });
    await second.until(`subscribed.length === 1`, "states");
    await site.publish(1, "DE");
    await second.until(`told.length === 1`, "[told, states]");
    assert.deepEqual(await second.evaluate("told"), [`DE ${seq}`]);
    await second.close();
  }
});

test("a client that is closed in the tick that made it leaves no connection", async (t) => {
  const site = await Site.on(t, devtools);
  await leaksNothing(site);
});

test("two tabs, and the leading one is frozen: the other takes over, and both have everything", async (t) => {
  const site = await Site.on(t, devtools);
  const first = await site.open();
  const second = await site.open();
  await site.publish();
  await hasTold(first, 1, 1);
  await first.freeze();
  await site.publish(2);
  await hasTold(second, 1, 3);
  await first.unfreeze();
  await site.publish();
  await hasTold(first, 1, 4);
  await hasTold(second, 1, 4);
});

test("the gateway is killed and started again: the client comes back by itself", async (t) => {
  const site = await Site.on(t, devtools);
  const tab = await site.open();
  await site.publish(2);
  await hasTold(tab, 1, 2);
  await site.kill();
  await tab.until(`states.includes("waiting")`, "states");
  await tab.screenshot("client-gateway-killed");
  await site.start();
  await site.publish(2);
  await isOpen(tab);
  await site.publish();
  await hasTold(tab, 1, 5);
  await tab.screenshot("client-gateway-back");
});

test("while connections are cut no alert is lost or repeated", (t) => losesNothing(t, devtools));

test("two hours in seconds: connections are replaced before they are cut, and the client stays open", async (t) => {
  const site = await Site.on(t, devtools, "--connection-duration", "3s");
  const tab = await site.open({ rotateAfterMs: 1_500 });
  let published = 0;
  // Longer than two connections last.
  while (tab.sockets.length < 5) {
    await site.publish();
    published++;
    await tab.until(`told.length === ${published}`, "told");
  }
  await hasTold(tab, 1, published);
  assert.deepEqual(await tab.evaluate("states"), ["open"]);
  await tab.screenshot("client-after-two-hours");
});

test("a page that is loaded again goes on where it was", async (t) => {
  const site = await Site.on(t, devtools);
  const tab = await site.open();
  await site.publish(2);
  await hasTold(tab, 1, 2);
  await tab.goto("about:blank");
  await tab.until(`location.href === "about:blank"`);
  await site.publish(2);
  await tab.goto(`${site.local.address}health`);
  await tab.until("window.told?.length >= 2", "told");
  await site.publish();
  await hasTold(tab, 3, 5);
});

test("a token goes beside the subprotocol, which is answered", (t) => sendsItsToken(t, devtools));

test("a page that may not read is told which parameter names its origin", (t) => tellsOfCors(t, devtools));

test("where WebSockets cannot be had alerts come over HTTP, and by WebSocket again when they can", async (t) => {
  const site = await Site.on(t, devtools);
  const proxy = await startProxy(t, site.local);
  proxy.mode = "refuses";
  const tab = await site.open({ url: proxy.url, reconnectWithinMs: 50 });
  assert.equal(await tab.evaluate(`states.at(-1)`), "polling");
  await site.publish(5);
  await hasTold(tab, 1, 5);
  await tab.screenshot("client-polling");
  proxy.mode = "passes";
  // Attempts go on by themselves, with pauses of up to half a minute: the test does not wait for them.
  await tab.evaluate(`dispatchEvent(new Event("online"))`);
  await isOpen(tab);
  await site.publish();
  await hasTold(tab, 1, 6);
});

test("a page at another port has alerts where WebSockets hang, and its tab remembers that they do", async (t) => {
  const site = await Site.on(t, devtools);
  const proxy = await startProxy(t, site.local);
  proxy.mode = "hangs";
  // As a bundler serves it.
  const module = readFileSync(`${ROOT}/client/viral-alerts.js`);
  const server = createHttpServer(({ url }, response) => {
    response.setHeader("content-type", url.endsWith(".js") ? "text/javascript" : "text/html");
    response.end(url.endsWith(".js") ? module : "");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const page = `http://localhost:${server.address().port}/`;
  const tab = await site.open({ url: proxy.url }, page);
  assert.equal(await tab.evaluate(`states.at(-1)`), "polling");
  await site.publish();
  await hasTold(tab, 1, 1);
  const remembered = `sessionStorage.getItem("viral-alerts ${proxy.url} true http")`;
  assert.equal(await tab.evaluate(remembered), "1");
  await tab.goto("about:blank");
  await site.publish();
  await tab.goto(page);
  await tab.until("window.told?.length", "[window.states, window.errors]");
  await hasTold(tab, 2, 2);
  // The first attempt still hangs.
  assert.deepEqual(await tab.evaluate("[states, sockets.length, errors]"), [["polling"], 1, []]);
  proxy.mode = "passes";
  // Chromium opens one connection to an address at a time, and 156 goes on with those of pages that it has left.
  proxy.cut();
  await tab.evaluate(`dispatchEvent(new Event("offline")), dispatchEvent(new Event("online"))`);
  await isOpen(tab);
  assert.equal(await tab.evaluate(remembered), "");
});
