// The channels of a connection to AppSync Events: which it has, and which it is refused.

import { expect, test, vi } from "vitest";
import { alertsOf, pass, publishUntil, until } from "./application.js";
import { appSync, service } from "./current.js";
import { HOUR, MINUTE, channels, startWith, subscriptions } from "./event-api.js";
import { LATENCY } from "./service.js";

test("a region whose channel is refused when ALL is left is told as such", async () => {
  const { client, errors } = startWith({ regions: ["PL", "DE"] });
  await pass(1_000);
  client.watch("ALL");
  await pass(1_000);
  service.forbidden.add("DE");
  client.unwatch("ALL");
  await pass(MINUTE + 1_000);
  expect(errors.map(({ code }) => code)).toEqual(["forbidden"]);
  expect(channels()).toEqual(["/alerts/PL"]);
});

test("a channel that brings alerts is kept, whatever a look finds", async () => {
  const { told } = startWith({ checkMs: 10 * MINUTE });
  await pass(20_000);
  appSync.deliver = ({ seq }) => (seq === 2 ? [] : [LATENCY]);
  publishUntil(service, "PL", 2);
  await pass(13 * MINUTE);
  expect(told).toEqual(alertsOf("PL", 1, 2));
  expect(subscriptions()).toEqual(["subscribe PL"]);
});

test("the channel of ALL is kept if a look finds a region that it does not have", async () => {
  const { told } = startWith({ regions: ["ALL"], checkMs: 10 * MINUTE });
  await pass(20_000);
  appSync.deliver = ({ region }) => (region === "PL-" ? [] : [LATENCY]);
  publishUntil(service, "PL-", 2);
  await pass(13 * MINUTE);
  expect(told).toEqual(alertsOf("PL-", 1, 2));
  expect(subscriptions()).toEqual(["subscribe ALL"]);
});

test("a region whose channel has ended, and may not be had again, is told as such", async () => {
  const { told, errors } = startWith({ regions: ["PL", "DE"], checkMs: 10 * MINUTE });
  await pass(20_000);
  service.loseSubscriptions("PL");
  publishUntil(service, "PL", 1);
  appSync.refused.set("/alerts/PL", "BadRequestException");
  await pass(15 * MINUTE);
  expect(errors.map(({ code }) => code)).toEqual(["forbidden"]);
  expect(told).toEqual(["PL 1"]);
  expect(channels()).toEqual(["/alerts/DE"]);
});

test("a region that is left while its channel is renewed has none", async () => {
  // The looks come after 7.5 s, and ten minutes later.
  vi.mocked(Math.random).mockReturnValue(0.5);
  const { client } = startWith({ regions: ["PL", "DE"], checkMs: 10 * MINUTE });
  await pass(10 * MINUTE);
  service.loseSubscriptions("PL");
  publishUntil(service, "PL", 1);
  await until(() => subscriptions().length > 2);
  client.unwatch("PL");
  await pass(1_000);
  expect(channels()).toEqual(["/alerts/DE"]);
  client.watch("PL");
  await pass(1_000);
  publishUntil(service, "PL", 2);
  await pass(100);
  expect(client.counts.alert).toBe(2);
});

test("a page that is not the service's refuses no region", async () => {
  const { told, errors } = startWith();
  await pass(15);
  service.status = 404;
  await pass(MINUTE);
  service.status = 200;
  await pass(MINUTE + 1_000);
  publishUntil(service, "PL", 1);
  await pass(100);
  expect([told, errors]).toEqual([["PL 1"], []]);
});

test("ALL is one channel, and a region of which alerts are missing is read without another one", async () => {
  const { told } = startWith({ regions: ["ALL"] });
  await pass(20_000);
  appSync.deliver = ({ seq }) => (seq === 1 ? [] : [LATENCY]);
  for (const region of ["PL", "DE", "FR"]) publishUntil(service, region, 2);
  await pass(2_000);
  expect(told.length).toBe(6);
  expect(channels()).toEqual(["/alerts/*"]);
  const [asks, begins] = service.requests.map(({ searchParams }) => searchParams.toString());
  expect([asks, begins]).toEqual(["region=ALL&limit=1", "region=ALL&limit=1"]);
});

test("a region has its own channel again when ALL is left, and nothing is subscribed twice", async () => {
  const { client, told, states } = startWith({ regions: ["PL", "ALL"] });
  await pass(1_000);
  client.watch("DE");
  await pass(1_000);
  expect(channels()).toEqual(["/alerts/*"]);
  client.unwatch("ALL");
  await pass(1_000);
  expect(channels().sort()).toEqual(["/alerts/DE", "/alerts/PL"]);
  client.unwatch("DE");
  await pass(1_000);
  expect(channels()).toEqual(["/alerts/PL"]);
  client.watch("ALL");
  await pass(1_000);
  expect(channels()).toEqual(["/alerts/*"]);
  for (const region of ["PL", "DE"]) publishUntil(service, region, 1);
  await pass(100);
  expect(told).toEqual(["PL 1", "DE 1"]);
  await pass(20_000);
  expect(states).toEqual(["open"]);
});

test("a refused channel stops only itself", async () => {
  const regions = Array.from({ length: 30 }, (_, index) => `R-${index}`);
  service.forbidden.add("R-7");
  appSync.refused.set("/alerts/R-29", "MaxSubscriptionsReachedError");
  const { told, errors, subscribed } = startWith({ regions });
  await pass(10_000);
  expect(errors.map(({ code, terminal }) => [code, terminal])).toEqual([
    ["forbidden", false],
    ["limit_reached", false],
  ]);
  expect(subscribed.length).toBe(28);
  for (const region of regions) publishUntil(service, region, 1);
  await pass(100);
  expect(told.length).toBe(28);
  expect(appSync.sockets.size).toBe(1);
  const before = appSync.messages.length;
  await pass(HOUR);
  expect(appSync.messages.length).toBe(before);
});

test.each([
  ["cannot be had at the moment", "SubscriptionProcessingError"],
  ["AppSync refuses because its authorizer failed", "UnauthorizedException"],
])("a channel that %s is asked for again", async (_, errorType) => {
  appSync.refused.set("/alerts/PL", errorType);
  const { told, errors } = startWith();
  await pass(5_000);
  appSync.refused.clear();
  await pass(MINUTE + 1_000);
  publishUntil(service, "PL", 1);
  await pass(100);
  expect(told).toEqual(["PL 1"]);
  expect(errors).toEqual([]);
});

test("a region keeps its channel where ALL is refused", async () => {
  service.forbidden.add("ALL");
  const { client, told, errors } = startWith();
  await pass(1_000);
  client.watch("ALL");
  await pass(20_000);
  expect(errors.map(({ code }) => code)).toEqual(["forbidden"]);
  expect(channels()).toEqual(["/alerts/PL"]);
  publishUntil(service, "PL", 1);
  await pass(100);
  expect(told).toEqual(alertsOf("PL", 1, 1));
});
