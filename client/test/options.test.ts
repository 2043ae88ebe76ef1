// What an application passes to a client, and what is kept for it.

import { expect, test, vi } from "vitest";
import { ViralAlerts } from "../src/viral-alerts.js";
import { URL_OF_SERVICE, newStorage, pass, publishUntil, start } from "./application.js";
import { service } from "./current.js";
import { on } from "./legs.js";

const MINUTE = 60_000;

test("the address alone is enough", async () => {
  vi.stubGlobal("WebSocket", service.WebSocket);
  const client = new ViralAlerts("wss://service.example/prod");
  client.watch("PL");
  await pass(100);
  expect(client.state).toEqual({ state: "open", transport: "websocket" });
  client.close();
  expect(client.state).toEqual({ state: "closed" });
  expect(service.sockets.size).toBe(0);
});

test("what cannot be a region is refused at once", () => {
  const { client } = start(service);
  for (const region of ["", "P", "1A", "ÅL", "A".repeat(17), "P L", undefined, null, 5]) {
    const refused = RangeError(`invalid region "${region}": expected a name like PL`);
    expect(() => client.watch(region as string)).toThrow(refused);
  }
});

test("one region may be named without a list", async () => {
  const { client, subscribed } = start(service, { regions: "pl" });
  await pass(100);
  expect([client.watched, subscribed.length]).toEqual([["PL"], 1]);
});

test.each([null, {}, 5, ["PL", 5]])("regions that cannot be are refused at once: %j", (regions) => {
  expect(() => start(service, { regions: regions as string })).toThrow(/iterable|invalid region/);
});

test("an option that cannot be is named at once, with what was expected", () => {
  const { WebSocket } = service;
  const url = URL_OF_SERVICE;
  const check = (options: unknown, message: string) =>
    expect(() => new ViralAlerts(options as string)).toThrow(TypeError(message));
  const expected = "expected wss://...";
  const expectedHttp = "expected https://...";
  check({ WebSocket }, `invalid url "undefined": ${expected}`);
  check(undefined, `invalid url "undefined": ${expected}`);
  check("", `invalid url "": ${expected}`);
  check("service.example/prod", `invalid url "service.example/prod": ${expected}`);
  check({ url: "ftp://service.example", WebSocket }, `invalid url "ftp://service.example": ${expected}`);
  check({ url, httpUrl: url, WebSocket }, `invalid httpUrl "${url}": ${expectedHttp}`);
  check({ url, httpUrl: "service.example", WebSocket }, `invalid httpUrl "service.example": ${expectedHttp}`);
  vi.stubGlobal("WebSocket", undefined);
  const none = "no WebSocket: pass the option WebSocket";
  check(url, none);
  check({ url, WebSocket: { WebSocket } }, none);
});

test.each([
  ["keepaliveMs", [NaN, 0, -1, 999, "soon"], 1_000],
  ["rotateAfterMs", [NaN, 0, -1, 999, "soon"], 1_000],
  ["hiddenMs", [NaN, -1], 0],
  ["reconnectWithinMs", [NaN, -1], 0],
])("%s that would leave no pause is refused with its least value", async (option, wrong, least) => {
  for (const value of wrong) {
    const refused = TypeError(`invalid ${option} "${value}": expected at least ${least}`);
    expect(() => start(service, { regions: ["PL"], [option]: value })).toThrow(refused);
  }
  for (const value of [least, Infinity, undefined, null]) start(service, { regions: ["PL"], [option]: value });
  await pass(60_000);
  // Within a minute no more than the smallest interval lets through.
  expect(service.said.length).toBeLessThan(4 * 62);
  expect(service.handshakes.length).toBeLessThan(4 * 62);
});

test.each([
  ["https://service.example/prod", undefined, URL_OF_SERVICE],
  ["/prod", "https://service.example/page", URL_OF_SERVICE],
  ["/prod", "http://localhost:5173/", "ws://localhost:5173/prod"],
])("%s is the address of a WebSocket in a page at %s", async (url, page, expected) => {
  vi.stubGlobal("location", page && new URL(page));
  service.events = undefined;
  start(service, { url });
  await pass(100);
  expect(service.handshakes).toEqual([expected]);
});

test("options that are undefined are those that are left out", async () => {
  vi.stubGlobal("WebSocket", service.WebSocket);
  const { states } = start(service, {
    regions: ["PL"],
    keepaliveMs: undefined,
    hiddenMs: undefined,
    WebSocket: undefined,
  } as object);
  await pass(5 * MINUTE);
  expect(states).toEqual(["open"]);
  expect(service.handshakes.length).toBe(1);
  expect(service.said.filter((one) => /^subscribe/.test(one)).length).toBe(1);
});

test("positions in the storage that are none are left out", async () => {
  for (const text of [
    "",
    "null",
    "[]",
    "5",
    '"x"',
    '{"PL":null}',
    '{"PL":5}',
    '{"PL":{}}',
    '{"PL":{"epoch":"x","seq":1}}',
    '{"PL":{"epoch":1,"seq":-1}}',
  ]) {
    const storage = { getItem: () => text, setItem: () => {} };
    const { subscribed, errors, client } = start(service, { regions: ["PL"], storage });
    await pass(100);
    expect(subscribed, text).toEqual([{ region: "PL", positions: { PL: { epoch: 0, seq: 0 } } }]);
    expect(errors).toEqual([]);
    client.close();
  }
});

test("nothing is told after the client was closed in a listener", async () => {
  const { client, subscribed } = start(service, { regions: ["PL", "DE"] });
  client.addEventListener("subscribed", () => client.close());
  await pass(100);
  expect(subscribed.length).toBe(1);
});

test("positions are kept for the next page", async () => {
  const storage = newStorage();
  const first = start(service, { regions: ["PL"], storage });
  await pass(100);
  publishUntil(service, "PL", 2);
  await pass(100);
  first.client.close();
  publishUntil(service, "PL", 4);
  const second = start(service, { regions: ["PL"], storage });
  await pass(100);
  expect(second.told).toEqual(["PL 3", "PL 4"]);
  expect(service.said.filter((one) => /^subscribe/.test(one)).length).toBe(2);
  expect(service.said.at(-1)).toBe(on({ gateway: "subscribe_region PL after PL 2", events: "GET PL after PL 2" }));
});

test("storage that throws is done without", async () => {
  const storage = {
    getItem: () => "no JSON",
    setItem: () => {
      throw new DOMException("full", "QuotaExceededError");
    },
  };
  const { told } = start(service, { regions: ["PL"], storage });
  await pass(100);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1"]);
});
