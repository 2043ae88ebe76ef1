// Looks at the log, which find what AppSync has lost.

import { expect, test } from "vitest";
import { alertsOf, pass, publishUntil } from "./application.js";
import { appSync, service } from "./current.js";
import { HOUR, MINUTE, channels, delayOneAnswer, startWith } from "./event-api.js";
import { LATENCY } from "./service.js";

test("last alerts that were lost are found within three quarters to five quarters of checkMs", async () => {
  const { client, told } = startWith({ checkMs: 10 * MINUTE });
  await pass(20_000);
  publishUntil(service, "PL", 7);
  await pass(100);
  appSync.deliver = () => [];
  publishUntil(service, "PL", 9);
  service.remove("PL", 9, []);
  await pass(7 * MINUTE);
  expect(told).toEqual(alertsOf("PL", 1, 7));
  await pass(6 * MINUTE);
  expect(told).toEqual(alertsOf("PL", 1, 8));
  expect(client.counts.removed).toBe(1);
  // What came was not read again.
  expect(service.requests.at(-1)!.searchParams.get("after")).toMatch(/^PL\..*\.7$/);
});

test("an idle client reads the log seldom, at random moments, and says nothing else", async () => {
  startWith();
  await pass(MINUTE);
  const looks: number[] = [];
  const history = service.history.bind(service);
  service.history = (url) => {
    looks.push(Date.now());
    return history(url);
  };
  await pass(10 * HOUR);
  const pauses = looks.slice(1).map((at, index) => (at - looks[index]!) / MINUTE);
  expect(Math.min(...pauses)).toBeGreaterThanOrEqual(22.5);
  expect(Math.max(...pauses)).toBeLessThan(37.6);
  expect(Math.max(...pauses) - Math.min(...pauses)).toBeGreaterThan(3);
  expect(appSync.messages.map(({ type }) => type)).toEqual(["connection_init", "subscribe"]);
});

test("a look that fails is repeated soon, and another log is told as a gap", async () => {
  const { told } = startWith({ checkMs: 10 * MINUTE });
  publishUntil(service, "PL", 2);
  await pass(20_000);
  publishUntil(service, "PL", 3);
  await pass(100);
  appSync.deliver = () => [];
  service.reset();
  publishUntil(service, "PL", 2);
  service.status = 503;
  await pass(14 * MINUTE);
  expect(told).toEqual(["PL 3"]);
  service.status = 200;
  await pass(2 * MINUTE);
  expect(told).toEqual(["PL 3", "PL gap 4-null", "PL 1", "PL 2"]);
});

test("a look begins where the client has everything, not behind what is missing", async () => {
  const { told } = startWith({ checkMs: 10 * MINUTE });
  await pass(20_000);
  service.status = 503;
  appSync.deliver = ({ seq }) => (seq === 2 ? [] : [LATENCY]);
  publishUntil(service, "PL", 3);
  await pass(14 * MINUTE);
  for (const { searchParams } of service.requests.slice(2)) expect(searchParams.get("after")).not.toMatch(/\.3$/);
  service.status = 200;
  await pass(MINUTE + 1_000);
  expect(told).toEqual(alertsOf("PL", 1, 3));
});

test("a look reads more regions than fit in a request", async () => {
  const regions = Array.from({ length: 30 }, (_, index) => `R-${index}`);
  const { told } = startWith({ regions, checkMs: 10 * MINUTE });
  await pass(20_000);
  appSync.deliver = () => [];
  for (const region of regions) publishUntil(service, region, 1);
  await pass(13 * MINUTE);
  expect(told.sort()).toEqual(regions.map((region) => `${region} 1`).sort());
});

test("a region that a look may not read any more is told as such, and the others are looked at", async () => {
  const { told, errors } = startWith({ regions: ["PL", "DE"], checkMs: 10 * MINUTE });
  await pass(20_000);
  service.forbidden.add("PL");
  await pass(15 * MINUTE);
  expect(errors.map(({ code }) => code)).toEqual(["forbidden"]);
  expect(channels()).toEqual(["/alerts/DE"]);
  appSync.deliver = () => [];
  publishUntil(service, "DE", 1);
  await pass(13 * MINUTE);
  expect(told).toEqual(["DE 1"]);
});

test("a token that a look may not use any more ends the client", async () => {
  const { errors, states } = startWith({ token: "old", checkMs: 10 * MINUTE });
  await pass(20_000);
  service.status = 401;
  service.body = { error: { code: "unauthorized" } };
  await pass(15 * MINUTE);
  expect(errors).toMatchObject([{ code: "unauthorized", terminal: true }]);
  expect(states.at(-1)).toBe("closed");
});

test.each([Infinity, 1e300])("a checkMs of %d is a day", async (checkMs) => {
  startWith({ checkMs });
  await pass(MINUTE);
  const before = service.requests.length;
  await pass(17 * HOUR);
  expect(service.requests.length).toBe(before);
});

test("what is published just after ALL was left is found soon", async () => {
  appSync.lateMs = 3_000;
  const { client, told } = startWith();
  await pass(30_000);
  client.watch("ALL");
  await pass(30_000);
  client.unwatch("ALL");
  await pass(1_500);
  publishUntil(service, "PL", 1);
  await pass(30_000);
  expect(told).toEqual(alertsOf("PL", 1, 1));
});

test("a region that is watched during a look has its second look all the same", async () => {
  const { client, told } = startWith({ checkMs: 600_000 });
  await pass(60_000);
  appSync.lateMs = 3_000;
  delayOneAnswer(5_000, () => true, () => client.watch("DE"));
  for (let passed = 0; channels().length < 2; passed += 1_000) {
    expect(passed).toBeLessThan(HOUR);
    await pass(1_000);
  }
  await pass(1_000);
  publishUntil(service, "DE", 1);
  await pass(60_000);
  expect(told).toEqual(["DE 1"]);
});
