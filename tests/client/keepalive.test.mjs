// The built client against the local mode: what a keepalive sends and repairs.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { ViralAlerts } from "../../client/viral-alerts.js";
import { publish, startLocal, stopLocal } from "../local.mjs";

const KEEPALIVE_MS = 1_000;
/** Bound of every wait, in milliseconds. */
const WAIT_MAX = 20_000;

let local;
before(async () => {
  local = await startLocal(["--log", "error"]);
});
after(() => stopLocal(local));

/** Starts a client and records what it sends and is answered. `losesPushes` drops its alerts. */
function start(t, regions, options) {
  const application = { said: [], answers: [], told: [], sockets: [], losesPushes: false };
  class Socket extends WebSocket {
    constructor(url) {
      super(url);
      application.sockets.push(this);
    }
    send(data) {
      application.said.push(JSON.parse(data));
      super.send(data);
    }
    emit(event, ...args) {
      if (event === "message") {
        const frame = JSON.parse(String(args[0]));
        if (frame.type !== "viral_alert") application.answers.push(frame);
        else if (application.losesPushes) return false;
      }
      return super.emit(event, ...args);
    }
  }
  const client = new ViralAlerts({
    url: local.webSocketAddress,
    regions,
    WebSocket: Socket,
    keepaliveMs: KEEPALIVE_MS,
    ...options,
  });
  client.addEventListener("alert", ({ detail: { region, seq, everyone } }) =>
    application.told.push(`${region} ${seq}${everyone ? " everyone" : ""}`),
  );
  t.after(() => client.close());
  return application;
}

async function until(what, condition) {
  for (const end = Date.now() + WAIT_MAX; !condition(); await new Promise((resolve) => setTimeout(resolve, 20))) {
    assert.ok(Date.now() < end, `${what} within ${WAIT_MAX} ms`);
  }
}

const kept = ({ answers }) => answers.filter(({ type }) => type === "kept");
const subscriptions = ({ said }) =>
  said.filter(({ type }) => type === "subscribe_region").map(({ regions }) => regions);

test("where nothing was lost keepalives are kept, for one region, for sixty and for ALL", async (t) => {
  const sixty = Array.from({ length: 60 }, (_, index) => `KEPT-${index}`);
  await publish(local.address, "KEPT-3");
  for (const [regions, messages] of [
    [["KEPT-3"], 1],
    [sixty, 3],
    [["ALL"], 1],
  ]) {
    const application = start(t, regions);
    await until("three keepalives", () => kept(application).length >= 3);
    assert.deepEqual(kept(application).slice(0, 3), Array(3).fill({ type: "kept" }));
    assert.equal(subscriptions(application).length, messages);
    assert.equal(application.sockets.length, 1);
  }
});

test("a lost push and a lost subscription show at the next keepalive", async (t) => {
  const application = start(t, ["LOST-A", "LOST-B"]);
  await until("a keepalive", () => kept(application).length);
  application.losesPushes = true;
  await publish(local.address, "LOST-A");
  await until("the lost alert", () => application.told.length);
  application.losesPushes = false;
  assert.deepEqual(application.told, ["LOST-A 1"]);
  assert.deepEqual(subscriptions(application).at(-1), ["LOST-A"]);
  assert.ok(kept(application).some(({ behind }) => behind?.join() === "LOST-A"));

  // The subscription is removed without the client's knowledge.
  application.sockets[0].send(JSON.stringify({ type: "unsubscribe_region", region: "LOST-B" }));
  await until("the subscription", () => subscriptions(application).at(-1).join() === "LOST-B");
  assert.ok(kept(application).some(({ missing }) => missing?.join() === "LOST-B"));
  await publish(local.address, "LOST-B");
  await until("its alert", () => application.told.includes("LOST-B 1"));
  assert.equal(application.sockets.length, 1);
});

test("under ALL a push of a region that came into being shows too", async (t) => {
  const application = start(t, ["ALL"]);
  await until("a keepalive", () => kept(application).length);
  application.losesPushes = true;
  await publish(local.address, "BORN");
  await until("the lost alert", () => application.told.includes("BORN 1"));
  assert.deepEqual(subscriptions(application), [["ALL"], ["ALL"]]);
});

test("an alert of a region without subscribers comes once, marked for everyone", async (t) => {
  const application = start(t, ["WATCHED"]);
  await until("a keepalive", () => kept(application).length);
  await publish(local.address, "UNWATCHED");
  await until("the alert", () => application.told.length);
  await publish(local.address, "WATCHED");
  await until("the next alert", () => application.told.length > 1);
  assert.deepEqual(application.told, ["UNWATCHED 1 everyone", "WATCHED 1"]);
  assert.deepEqual(subscriptions(application), [["WATCHED"]]);
});
