import { expect, test, vi } from "vitest";
import type { Options } from "../src/viral-alerts.js";
import { startRecent, type Recent } from "../src/viral-alerts-recent.js";
import { newStorage, pass, publishUntil, start, type Application } from "./application.js";
import { service } from "./current.js";

const HTTP = { httpUrl: "https://service.example/" };

/** Numbers of alerts from before that were asked for. The leg of AppSync reads a single alert for its position. */
const limits = (): string[] =>
  service.requests.flatMap(({ searchParams }) => searchParams.get("limit") ?? []).filter((limit) => limit !== "1");

/** A client with its alerts from before. `shown` has every alert, those from before with a minus. */
function startWith(
  options: Omit<Partial<Options>, "httpUrl"> & { recent?: number },
): Application & { recent: Recent; shown: string[] } {
  const { recent: each = 0, ...own } = options;
  const application = start(service, { ...HTTP, ...own });
  const shown: string[] = [];
  application.client.addEventListener("alert", ({ detail: { recent, region, seq } }) =>
    shown.push(`${recent ? "-" : ""}${region} ${seq}`),
  );
  return { ...application, shown, recent: startRecent(application.client, { ...HTTP, ...own, recent: each }) };
}

test("every watched region begins with its newest alerts, marked, and each alert comes once", async () => {
  publishUntil(service, "PL", 5);
  publishUntil(service, "DE", 1);
  const { client, shown } = startWith({ regions: ["PL"], recent: 2 });
  await pass(100);
  publishUntil(service, "PL", 6);
  await pass(100);
  client.watch("de");
  await pass(100);
  expect(shown).toEqual(["-PL 4", "-PL 5", "PL 6", "-DE 1"]);
});

test("a page that is loaded again shows what it missed as new, and what it had as alerts from before", async () => {
  const storage = newStorage();
  const first = startWith({ regions: ["PL"], storage });
  await pass(100);
  publishUntil(service, "PL", 2);
  await pass(100);
  first.client.close();
  publishUntil(service, "PL", 4);
  const { shown } = startWith({ regions: ["PL"], storage, recent: 3 });
  await pass(1_000);
  expect(shown.sort()).toEqual(["-PL 2", "PL 3", "PL 4"]);
  expect(limits()).toEqual(["3"]);
  // What the browser has kept of the log would lack what came within that second.
  expect(vi.mocked(fetch).mock.lastCall![1]).toMatchObject({ cache: "no-cache" });
});

test("further calls go further back and resolve with what they dispatch, as far as the log", async () => {
  publishUntil(service, "PL", 5);
  const { recent, shown } = startWith({ regions: ["PL"], recent: 1 });
  await pass(100);
  publishUntil(service, "PL", 6);
  await pass(100);
  const found = recent("pl", 2);
  await pass(100);
  expect((await found).map(({ seq, recent }) => [seq, recent])).toEqual([
    [3, true],
    [4, true],
  ]);
  const last = recent("PL", 50);
  await pass(100);
  expect((await last).map(({ seq }) => seq)).toEqual([1, 2]);
  const none = recent("PL", 0);
  await pass(100);
  expect(await none).toEqual([]);
  expect(shown).toEqual(["-PL 5", "PL 6", "-PL 3", "-PL 4", "-PL 1", "-PL 2"]);
});

test("what reached everyone, and what was taken back, is not shown as an alert from before", async () => {
  const { client, shown } = startWith({ regions: ["DE"], recent: 5 });
  await pass(100);
  service.publishToEveryone("PL");
  publishUntil(service, "PL", 3);
  service.remove("PL", 2);
  await pass(100);
  client.watch("PL");
  await pass(100);
  expect(shown).toEqual(["PL 1", "-PL 3"]);
});

test("under ALL the newest of all regions come, and a region that is new comes from its beginning", async () => {
  publishUntil(service, "PL", 2);
  publishUntil(service, "DE", 1);
  const { shown } = startWith({ regions: ["ALL"], recent: 4 });
  await pass(100);
  publishUntil(service, "FR", 1);
  await pass(100);
  expect(shown.sort()).toEqual(["-DE 1", "-PL 1", "-PL 2", "FR 1"]);
});

test("a listener of a region gets alerts from before too, and accept decides about them", async () => {
  publishUntil(service, "PL", 3);
  const { client, shown } = startWith({ regions: ["PL"], recent: 3, accept: ({ seq }) => seq !== 2 });
  const listener = vi.fn();
  client.addEventListener("alert:PL", listener);
  await pass(100);
  expect(shown).toEqual(["-PL 1", "-PL 3"]);
  expect(listener).toHaveBeenCalledTimes(2);
});

test("an accept that throws refuses no alert from before either", async () => {
  const reportError = vi.fn();
  vi.stubGlobal("reportError", reportError);
  const broken = Error("broken");
  const accept = (): boolean => {
    throw broken;
  };
  publishUntil(service, "PL", 1);
  const { shown, errors } = startWith({ regions: ["PL"], recent: 1, accept });
  await pass(100);
  expect([shown, errors, reportError.mock.calls]).toEqual([["-PL 1"], [], [[broken]]]);
});

test("alerts that accept refuses or that were taken back make room for older ones, with one more request", async () => {
  publishUntil(service, "PL", 40);
  service.remove("PL", 24);
  const { shown } = startWith({ regions: ["PL"], recent: 5, accept: ({ seq }) => seq! <= 25 });
  await pass(100);
  expect(shown).toEqual(["-PL 20", "-PL 21", "-PL 22", "-PL 23", "-PL 25"]);
  expect(limits()).toEqual(["5", "100"]);
});

test("an accept that refuses everything costs two requests, and one where the log has no more", async () => {
  publishUntil(service, "PL", 200);
  publishUntil(service, "DE", 4);
  const accept = (): boolean => false;
  const { shown } = startWith({ regions: ["PL"], recent: 10, accept });
  await pass(100);
  expect([shown, limits().length]).toEqual([[], 2]);
  startWith({ regions: ["DE"], recent: 5, accept });
  await pass(100);
  expect(limits().length).toBe(3);
});

test("under ALL regions with more alerts make up for those with fewer", async () => {
  publishUntil(service, "PL", 9);
  publishUntil(service, "DE", 1);
  const { shown } = startWith({ regions: ["ALL"], recent: 6 });
  await pass(100);
  expect(shown.length).toBe(6);
});

test("calls at a time go further back as calls one after another do, also after one that failed", async () => {
  publishUntil(service, "PL", 20);
  const { recent } = startWith({ regions: ["PL"] });
  await pass(100);
  service.status = 500;
  const failed = recent("PL", 5).catch(() => (service.status = 200));
  const others = [recent("PL", 5), recent(" pl ", 5), recent("PL", 5)];
  await pass(100);
  await failed;
  const found = (await Promise.all(others)).map((alerts) => alerts.map(({ seq }) => seq));
  expect(found).toEqual([
    [16, 17, 18, 19, 20],
    [11, 12, 13, 14, 15],
    [6, 7, 8, 9, 10],
  ]);
});

test("numbers and regions that cannot be are refused, with what was expected", async () => {
  const { recent, client } = startWith({ regions: ["PL"] });
  await pass(100);
  for (const count of [NaN, -1, 1.5, "many"] as number[]) {
    const expected = "expected a whole number from 0, or Infinity";
    await expect(recent("PL", count)).rejects.toThrow(TypeError(`invalid count "${count}": ${expected}`));
    const refused = TypeError(`invalid recent "${count}": ${expected}`);
    expect(() => startRecent(client, { ...HTTP, recent: count })).toThrow(refused);
  }
  await expect(recent("PL, DE", 1)).rejects.toThrow(RangeError);
  expect(limits()).toEqual([]);
  publishUntil(service, "PL", 3);
  const { shown } = startWith({ regions: ["PL"], recent: Infinity });
  await pass(100);
  expect(shown).toEqual(["-PL 1", "-PL 2", "-PL 3"]);
});

test("what could not be read is an error, and is read after the next connection", async () => {
  publishUntil(service, "PL", 1);
  service.status = 500;
  const { errors, shown, recent } = startWith({ regions: ["PL"], recent: 1 });
  await pass(100);
  expect(errors).toMatchObject([{ code: "recent", message: "HTTP 500", terminal: false }]);
  const refused = expect(recent("PL", 1)).rejects.toMatchObject({ status: 500 });
  await pass(100);
  await refused;
  service.status = 200;
  service.cut();
  await pass(30_000);
  expect(shown).toEqual(["-PL 1"]);
});

test("after the client is closed nothing comes", async () => {
  publishUntil(service, "PL", 1);
  const { client, errors, shown, recent } = startWith({ regions: ["PL"], recent: 1 });
  client.close();
  await expect(recent("PL", 1)).rejects.toMatchObject({ code: "closed" });
  await pass(1_000);
  expect([shown, errors, service.requests]).toEqual([[], [], []]);
});
