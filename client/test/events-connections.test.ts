// Connections to AppSync Events: when they end, when they are replaced, and the token that goes with them.

import { expect, test, vi } from "vitest";
import { alertsOf, pass } from "./application.js";
import { EVENTS } from "./appsync.js";
import { Browser } from "./browser.js";
import { appSync, service, startService } from "./current.js";
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

const MINUTES_AHEAD = [-120, -61, 0, 30, 59, 60, 61, 120, 60 * 24 * 365];

/** A token of an hour, as the service makes it when the browser's clock is ahead by so many minutes. */
function jwt(claims: ("iat" | "nbf")[], minutesAhead: number): string {
  const now = Math.floor(Date.now() / 1_000) - 60 * minutesAhead;
  const starts = Object.fromEntries(claims.map((claim) => [claim, now]));
  return `h.${btoa(JSON.stringify({ ...starts, exp: now + 3_600 })).replaceAll("=", "")}.s`;
}

/** Tokens of all connections. */
const tokens = (): number => new Set(appSync.handshakes.map(({ Authorization }) => Authorization)).size;

test.each(MINUTES_AHEAD)(
  "a connection is replaced before its token ends, with a new one, by a clock %i minutes ahead",
  async (minutesAhead) => {
    const { states } = startWith({ token: () => jwt(["iat"], minutesAhead) });
    await pass(50 * MINUTE);
    expect(tokens()).toBe(1);
    await pass(9 * MINUTE);
    expect(tokens()).toBe(2);
    startService();
    startWith({ token: () => jwt(["nbf"], minutesAhead) });
    await pass(59 * MINUTE);
    expect(tokens()).toBe(2);
    expect(states).toEqual(["open"]);
  },
);

test("a token that does not say when it begins counts by the clock", async () => {
  startWith({ token: () => jwt([], 0) });
  await pass(59 * MINUTE);
  expect(tokens()).toBe(2);
});

test.each(MINUTES_AHEAD)(
  "such a token has a connection replaced seldom, also by a clock %i minutes ahead",
  async (minutesAhead) => {
    const { states } = startWith({ token: () => jwt([], minutesAhead) });
    await pass(HOUR);
    expect(appSync.handshakes.length).toBeLessThanOrEqual(3);
    expect(states).toEqual(["open"]);
  },
);

test("the same token counts from when it came first, and no longer once it is taken after its end", async () => {
  const token = jwt(["iat"], 0);
  const { client, states } = startWith({ token: () => token });
  await pass(30 * MINUTE);
  service.cut();
  await pass(28 * MINUTE);
  const { length } = appSync.handshakes;
  expect(length).toBeGreaterThan(2);
  await pass(10 * HOUR);
  expect(appSync.handshakes.length).toBeLessThan(length + 10);
  expect(states.at(-1)).toBe("open");
  expect(client.counts.error).toBeUndefined();
});

test("a clock that is set while a connection opens does not make it count as one that took long", async () => {
  const page = new Browser();
  appSync.answersSubscriptions = false;
  startWith();
  await pass(100);
  vi.setSystemTime(Date.now() + HOUR);
  page.happens("offline");
  appSync.answersSubscriptions = true;
  page.happens("online");
  await pass(MINUTE);
  expect(appSync.sockets.size).toBe(1);
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
