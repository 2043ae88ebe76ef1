// The client over the local mode's Event API in a real Chromium, which checks subprotocols and who may read.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { ROOT, publish, startLocal, stopLocal } from "../local.mjs";
import { launchBrowser, openPage } from "./browser.mjs";

let browser;
let local;

before(async () => {
  local = await startLocal(["--delivery", "both", "--fault", "lost-event=0.3", "--fault", "doubled-event=0.3"]);
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  if (local) await stopLocal(local);
});

test("a page takes alerts from the Event API, each once and in order, also those of its time offline", async (t) => {
  const page = await openPage(t, browser);
  const module = "/viral-alerts-events.js";
  const body = readFileSync(`${ROOT}/client${module}`, "utf8");
  await page.route(`**${module}`, (route) => route.fulfill({ body, contentType: "text/javascript" }));
  const sockets = [];
  page.on("websocket", (socket) => sockets.push(socket.url()));
  // A page of the origin that may read, without a client of its own.
  await page.goto(`${local.address}viral-alerts.js`);
  await page.evaluate(
    async ({ url, httpUrl }) => {
      const { ViralAlerts } = await import("/viral-alerts.js");
      const { eventsSocket } = await import("/viral-alerts-events.js");
      const options = { url, httpUrl, regions: ["WEB"], checkMs: 10_000, reconnectWithinMs: 200 };
      const client = new ViralAlerts({ ...options, WebSocket: eventsSocket(options) });
      window.told = [];
      client.addEventListener("alert", ({ detail }) => told.push(detail.seq));
      client.addEventListener("gap", () => told.push("gap"));
      await client.ready();
    },
    { url: local.webSocketAddress, httpUrl: local.address.replace(/\/$/, "") },
  );
  for (let number = 0; number < 10; number++) await publish(local.address, "WEB");
  await page.context().setOffline(true);
  for (let number = 0; number < 10; number++) await publish(local.address, "WEB");
  await page.context().setOffline(false);
  await page.waitForFunction(() => told.length >= 20);
  assert.deepEqual(await page.evaluate(() => told), Array.from({ length: 20 }, (_, index) => index + 1));
  assert.ok(sockets.length >= 2);
  for (const socket of sockets) assert.match(socket, /\/event\/realtime$/);
});
