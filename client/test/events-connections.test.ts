// Connections to AppSync Events: when they end, when they are replaced, and the token that goes with them.

import { expect, test, vi } from "vitest";
import { alertsOf, pass } from "./application.js";
import { EVENTS } from "./appsync.js";
import { appSync, service } from "./current.js";
import { HOUR, MINUTE, startWith } from "./event-api.js";
import { LATENCY } from "./service.js";

test("after a cut clients come back over the minute that docs/protocol.md names", async () => {
  const { states } = startWith();
  const waits: number[] = [];
  for (let cut = 0; cut < 30; cut++) {
    await pass(5_000);
    expect(states.at(-1)).toBe("open");
    const began = Date.now();
    service.cut();
    while (states.at(-1) !== "open" || !waits[cut]) {
      await pass(100);
      if (states.at(-1) === "open") waits[cut] = Date.now() - began;
    }
  }
  expect(Math.max(...waits)).toBeGreaterThan(30_000);
  expect(Math.max(...waits)).toBeLessThan(MINUTE + 1_000);
});

test("without ka for 65 s the connection is replaced, at a random moment", async () => {
  const { states, told } = startWith();
  await pass(3 * MINUTE);
  expect(states).toEqual(["open"]);
  appSync.sendsKa = false;
  appSync.deliver = () => [];
  await pass(MINUTE);
  service.publish("PL");
  await pass(65_000);
  expect(states.slice(1)).toContain("waiting");
  appSync.sendsKa = true;
  // A connection that has had no `ka` yet ends before another one stays.
  await pass(MINUTE + 10_000);
  expect(states.at(-1)).toBe("open");
  expect(told).toEqual(["PL 1"]);
});

test("a page that is shown again finds out whether AppSync is still there", async () => {
  const { client, states } = startWith();
  await pass(20_000);
  appSync.sendsKa = false;
  await pass(40_000);
  client.reconnect();
  await pass(20_000);
  expect(states).toEqual(["open"]);
  service.silent = true;
  await pass(1_000);
  vi.setSystemTime(Date.now() + HOUR);
  client.reconnect();
  await pass(16_000);
  expect(states.at(-1)).not.toBe("open");
});

test("a connection is replaced before its day is over, once the new one is subscribed", async () => {
  const { told, states } = startWith();
  await pass(MINUTE);
  const [old] = appSync.sockets;
  let both = 0;
  for (let minute = 0; minute < 24 * 60; minute++) {
    await pass(MINUTE);
    service.publish("PL");
    both = Math.max(both, appSync.sockets.size);
  }
  await pass(1_000);
  expect(appSync.sockets.has(old!)).toBe(false);
  expect(appSync.handshakes.length).toBe(2);
  expect(states).toEqual(["open"]);
  expect(told).toEqual(alertsOf("PL", 1, 24 * 60));
});

test("a connection is replaced before its token ends, with a new one", async () => {
  const jwt = (): string => `h.${btoa(JSON.stringify({ exp: Math.floor(Date.now() / 1_000) + 3_600 }))}.s`;
  const { states } = startWith({ token: jwt });
  await pass(59 * MINUTE);
  expect(new Set(appSync.handshakes.map(({ Authorization }) => Authorization)).size).toBe(2);
  expect(states).toEqual(["open"]);
});

test("the token goes with the handshake, with each channel and with each look", async () => {
  let token = "first";
  const { client } = startWith({ token: () => token });
  await pass(1_000);
  token = "second";
  client.watch("DE");
  await pass(1_000);
  const sent = appSync.messages.filter(({ type }) => type === "subscribe");
  expect(appSync.handshakes).toEqual([{ host: EVENTS.host, Authorization: "first" }]);
  expect(sent.map(({ authorization }) => authorization!.Authorization)).toEqual(["first", "second"]);
  expect(new Headers(vi.mocked(fetch).mock.lastCall![1]!.headers).get("authorization")).toBe("Bearer second");
});

test("a token that the log refuses ends the client", async () => {
  const { errors, states } = startWith({ token: "old" });
  await pass(1_000);
  service.status = 401;
  service.body = { error: { code: "unauthorized" } };
  service.cut();
  await pass(MINUTE);
  expect(errors).toMatchObject([{ code: "unauthorized", terminal: true }]);
  expect(states.at(-1)).toBe("closed");
});

test.each([["connecting", 5], ["subscribing", 45], ["reading", 65], ["idle", MINUTE]])(
  "after close no timer is left while it is %s",
  async (_, ms) => {
    const { client } = startWith();
    await pass(ms);
    client.close();
    await pass(3 * LATENCY);
    expect(vi.getTimerCount()).toBe(0);
    expect(appSync.sockets.size).toBe(0);
  },
);
