// What an application calls and reads beside its events.

import { expect, test, vi } from "vitest";
import { debug } from "../src/viral-alerts-debug.js";
import { Browser } from "./browser.js";
import { pass, publishUntil, start } from "./application.js";
import { service } from "./current.js";

test("a client is ready when each watched region has its beginning, and again after another is watched", async () => {
  const { client } = start(service, { regions: ["PL", "DE"] });
  const ready = vi.fn();
  void client.ready().then(ready);
  await pass(15);
  expect(ready).not.toHaveBeenCalled();
  await pass(100);
  expect(ready).toHaveBeenCalled();
  await client.ready();
  client.watch("FR");
  const again = vi.fn();
  void client.ready().then(again);
  await pass(5);
  expect(again).not.toHaveBeenCalled();
  await pass(100);
  expect(again).toHaveBeenCalled();
});

test("a region that is refused is not waited for, in any tab", async () => {
  new Browser();
  service.forbidden.add("DE");
  const first = start(service, { regions: ["PL", "DE"] });
  await pass(1_000);
  await first.client.ready();
  const second = start(service, { regions: ["DE"] });
  await pass(1_000);
  await second.client.ready();
  expect(service.sockets.size).toBe(1);
  expect(second.subscribed).toEqual([]);
});

test("a client that is closed is never ready: it says by what", async () => {
  const { client } = start(service, { regions: ["PL"] });
  const waiting = expect(client.ready()).rejects.toMatchObject({ code: "closed", message: "closed", terminal: false });
  client.close();
  await waiting;
  await expect(client.ready()).rejects.toMatchObject({ code: "closed" });
  service.refuses = true;
  service.status = 401;
  const refused = start(service, { regions: ["PL"], token: "old", httpUrl: "https://service.example" });
  const ended = expect(refused.client.ready()).rejects.toMatchObject({ code: "unauthorized", terminal: true });
  await pass(10_000);
  await ended;
});

test("events are counted by type", async () => {
  const { client } = start(service, { regions: ["PL"], accept: ({ seq }) => seq !== 2 });
  expect(client.counts).toEqual({});
  await pass(100);
  publishUntil(service, "PL", 3);
  service.remove("PL", 1);
  await pass(100);
  expect(client.counts).toEqual({ state: 1, subscribed: 1, alert: 2, removed: 1 });
});

test("events of a region are also told with its name, whatever region watches it", async () => {
  const { client } = start(service, { regions: ["ALL"] });
  const heard: string[] = [];
  for (const type of ["alert:PL", "removed:PL", "subscribed:ALL"] as const)
    client.addEventListener(type, ({ type }) => heard.push(type));
  await pass(100);
  service.publish("DE");
  publishUntil(service, "PL", 1);
  await pass(100);
  service.remove("PL", 1);
  await pass(100);
  expect(heard).toEqual(["subscribed:ALL", "alert:PL", "removed:PL"]);
});

test("what accept refuses is neither told nor a gap, and an accept that throws refuses nothing", async () => {
  const reportError = vi.fn();
  vi.stubGlobal("reportError", reportError);
  const broken = Error("broken");
  const accept = ({ seq }: { seq?: number }): boolean => {
    if (seq === 3) throw broken;
    return seq === 2;
  };
  const { told } = start(service, { regions: ["PL"], accept });
  await pass(100);
  publishUntil(service, "PL", 4);
  await pass(60_000);
  expect(told).toEqual(["PL 2", "PL 3"]);
  expect(reportError.mock.calls).toEqual([[broken]]);
});

test("a client reconnects when it is told to, and a closed one does not", async () => {
  service.refuses = true;
  vi.spyOn(Math, "random").mockReturnValue(0.99);
  const { client, states } = start(service, { regions: ["PL"] });
  await pass(100);
  expect(states).toEqual(["waiting"]);
  service.refuses = false;
  client.reconnect();
  await pass(100);
  expect(states).toEqual(["waiting", "connecting", "open"]);
  client.close();
  client.reconnect();
  await pass(60_000);
  expect([states.at(-1), service.sockets.size]).toEqual(["closed", 0]);
});

test("an open connection that is silent is checked when the application asks for a reconnect", async () => {
  const { client, states } = start(service, { regions: ["PL"], httpUrl: undefined });
  // AppSync has sent its `ka` half a minute ago.
  await pass(90_100);
  service.silent = true;
  client.reconnect();
  await pass(15_100);
  expect(states.at(-1)).toBe("waiting");
});

test("methods work without their object, as callbacks", async () => {
  const { client } = start(service);
  const { watch, unwatch, close } = client;
  ["PL", "DE"].forEach((region) => watch(region));
  unwatch("de");
  expect(client.watched).toEqual(["PL"]);
  close();
  expect(client.state).toEqual({ state: "closed" });
});

test("debug prints each event with its time until it is ended", async () => {
  const { client } = start(service, { regions: ["PL"] });
  const lines: string[] = [];
  const end = debug(client, (line) => lines.push(line.replace(/\d+\.\d+/, "TIME")));
  await pass(100);
  service.publish("PL");
  await pass(100);
  end();
  service.publish("PL");
  await pass(100);
  expect(lines).toEqual([
    "viral-alerts TIME subscribed PL",
    "viral-alerts TIME state open",
    "viral-alerts TIME alert PL 1",
  ]);
});
