// The built client over an Event API of the local mode that loses, doubles, delays and reorders events, and begins
// late.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { ViralAlerts } from "../../client/viral-alerts.js";
import { eventsSocket } from "../../client/viral-alerts-events.js";
import { publish, startLocal, stopLocal } from "../local.mjs";

const ALERTS = 60;
/** Bound of every wait in milliseconds. The last look at the log comes within 12.5 s. */
const WAIT_MAX = 40_000;
const FAULTS = [
  "lost-event=0.2",
  "doubled-event=0.2",
  "late-event=0.2:300ms",
  "reordered-event=0.2",
  "late-subscription=0.5:300ms",
];

let local;
before(async () => {
  const faults = FAULTS.flatMap((fault) => ["--fault", fault]);
  local = await startLocal(["--delivery", "both", "--log", "error", ...faults]);
});
after(() => stopLocal(local));

async function until(what, condition) {
  for (const end = Date.now() + WAIT_MAX; !condition(); await new Promise((resolve) => setTimeout(resolve, 20))) {
    assert.ok(Date.now() < end, `${what} within ${WAIT_MAX} ms`);
  }
}

/** Starts a client, with its alerts and the sockets that it has opened. */
async function start(t, regions) {
  const application = { told: [], problems: [], sockets: [], pushed: 0 };
  class Socket extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      application.sockets.push(this);
      this.on("message", (data) => (application.pushed += JSON.parse(String(data)).type === "data"));
    }
  }
  const options = {
    url: local.webSocketAddress,
    httpUrl: local.address.replace(/\/$/, ""),
    regions,
    checkMs: 10_000,
    reconnectWithinMs: 500,
    WebSocket: Socket,
  };
  const client = new ViralAlerts({ ...options, WebSocket: eventsSocket(options) });
  t.after(() => client.close());
  client.addEventListener("alert", ({ detail: { region, seq } }) => application.told.push(`${region} ${seq}`));
  for (const type of ["gap", "error"]) {
    client.addEventListener(type, ({ detail }) => application.problems.push(detail));
  }
  await client.ready();
  return application;
}

test("every alert comes once and in order, with regions of one's own, with ALL, and through a cut", async (t) => {
  const clients = await Promise.all([start(t, ["EV-A", "EV-B"]), start(t, ["ALL"])]);
  for (let number = 0; number < ALERTS; number++) {
    await publish(local.address, number % 3 ? "EV-A" : "EV-B");
    if (number === ALERTS / 2) for (const { sockets } of clients) sockets.at(-1).terminate();
  }
  for (const { told, problems, sockets, ...application } of clients) {
    await until("every alert", () => told.length >= ALERTS);
    for (const region of ["EV-A", "EV-B"]) {
      const seen = told.filter((alert) => alert.startsWith(region));
      assert.deepEqual(seen, seen.map((_, index) => `${region} ${index + 1}`));
    }
    assert.equal(told.length, ALERTS);
    assert.deepEqual(problems, []);
    assert.ok(application.pushed > ALERTS / 6, `${application.pushed} events came over the Event API`);
    assert.equal(sockets.length, 2);
    for (const { url } of sockets) assert.match(url, /\/event\/realtime$/);
  }
});
