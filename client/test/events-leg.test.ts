// Which clients use AppSync Events, and when one leaves it for the WebSocket API.

import { expect, test, vi } from "vitest";
import { alertsOf, pass, publishUntil, until } from "./application.js";
import { EVENTS } from "./appsync.js";
import { appSync, service } from "./current.js";
import { HOUR, MINUTE, gatewayHandshakes, open, startWith } from "./event-api.js";

test.each([0, 30, 70, 100])("a share of %i percent is that of the clients", async (share) => {
  service.events = { ...EVENTS, share };
  for (let client = 0; client < 100; client++) startWith();
  await pass(1_000);
  // More than four standard deviations.
  const apart = share % 100 ? 21 : 0;
  expect(appSync.handshakes.length).toBeGreaterThanOrEqual(share - apart);
  expect(appSync.handshakes.length).toBeLessThanOrEqual(share + apart);
  expect(appSync.handshakes.length + gatewayHandshakes()).toBe(100);
});

test("clients move with the share, back and forth, and lose nothing", async () => {
  service.events = { ...EVENTS, share: 0 };
  const { told } = startWith({ checkMs: 10 * MINUTE });
  const publish = async (minutes: number): Promise<void> => {
    for (let minute = 0; minute < minutes; minute++) {
      service.publish("PL");
      await pass(MINUTE);
    }
  };
  await pass(1_000);
  expect(open()).toEqual([1, 0]);
  service.events = { ...EVENTS };
  // The gateway tells of it with the connection that replaces this one.
  await publish(112);
  expect(open()).toEqual([0, 1]);
  service.events = { ...EVENTS, share: 0 };
  await publish(14);
  expect(open()).toEqual([1, 0]);
  expect(told).toEqual(alertsOf("PL", 1, service.head("PL").seq));
});

test("where the service has no Event API, and if HTTP fails, alerts come over the WebSocket API", async () => {
  service.events = undefined;
  const { told } = startWith();
  await pass(1_000);
  service.publish("PL");
  await pass(100);
  service.status = 0;
  const second = startWith();
  await pass(1_000);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1", "PL 2"]);
  expect(second.told).toEqual(["PL 2"]);
  expect(gatewayHandshakes()).toBe(2);
});

test("HTTP that hangs holds up the WebSocket API for 4 s", async () => {
  vi.stubGlobal("fetch", () => new Promise(() => {}));
  const { states } = startWith();
  await pass(3_900);
  expect(states).toEqual([]);
  await pass(200);
  expect(states.at(-1)).toBe("open");
});

test("an Event API that cannot be reached gives way to the WebSocket API until the next connection", async () => {
  appSync.refuses = true;
  const { told, states } = startWith();
  await pass(MINUTE);
  expect(states.at(-1)).toBe("open");
  expect(open()).toEqual([1, 0]);
  appSync.refuses = false;
  publishUntil(service, "PL", 1);
  await pass(HOUR);
  expect(open()).toEqual([1, 0]);
  await pass(HOUR);
  expect(open()).toEqual([0, 1]);
  publishUntil(service, "PL", 2);
  await pass(1_000);
  expect(told).toEqual(["PL 1", "PL 2"]);
});

test("a token that fails for the handshake does not lead away from the Event API", async () => {
  let calls = 0;
  // The client asks for one, and the leg for its first request.
  const token = (): Promise<string> => (++calls === 3 ? Promise.reject(Error("signed out")) : Promise.resolve("t"));
  const { states, told } = startWith({ token });
  await pass(100);
  expect(calls).toBeGreaterThan(2);
  expect(service.handshakes).toEqual([]);
  await pass(MINUTE);
  expect(states.at(-1)).toBe("open");
  expect(service.handshakes).toEqual([EVENTS.url]);
  publishUntil(service, "PL", 1);
  await pass(100);
  expect(told).toEqual(["PL 1"]);
});

test("a region without a channel is followed over the WebSocket API", async () => {
  const { client, told } = startWith();
  await pass(1_000);
  client.watch("PL-");
  await pass(MINUTE + 1_000);
  publishUntil(service, "PL-", 1);
  publishUntil(service, "PL", 1);
  await pass(100);
  expect(told.sort()).toEqual(["PL 1", "PL- 1"]);
  expect(open()).toEqual([1, 0]);
});

test("a page that may not read the log keeps to the WebSocket API, whatever the service tells it", async () => {
  service.status = 0;
  const { told, states } = startWith();
  await pass(10_000);
  for (let cut = 1; cut <= 5; cut++) {
    service.cut();
    publishUntil(service, "PL", 2 * cut);
    await until(() => told.length === 2 * cut, 100);
  }
  expect(told).toEqual(alertsOf("PL", 1, 10));
  expect(appSync.handshakes).toEqual([]);
  service.status = 200;
  service.cut();
  await until(() => open()[1] === 1, 100);
  await pass(1_000);
  expect(states.at(-1)).toBe("open");
});

test("a log that cannot be read any more leaves the client to the WebSocket API", async () => {
  const { told } = startWith();
  await pass(1_000);
  service.status = 0;
  service.cut();
  publishUntil(service, "PL", 3);
  await until(() => told.length === 3, 100);
  expect(open()).toEqual([1, 0]);
});

test("an Event API that never answers a handshake gives way to the WebSocket API", async () => {
  appSync.hangs = true;
  const { states } = startWith();
  await until(() => open()[0] === 1, 100);
  await pass(1_000);
  expect(states.at(-1)).toBe("open");
  expect(appSync.handshakes.length).toBe(1);
});

test.each(["subscription is refused", "subscription has no answer"])(
  "an Event API where each %s gives way to the WebSocket API",
  async (what) => {
    if (what.endsWith("refused")) appSync.refused.set("/alerts/PL", "SubscriptionProcessingError");
    else appSync.answersSubscriptions = false;
    const { told } = startWith();
    await until(() => open()[0] === 1, 100);
    publishUntil(service, "PL", 1);
    await pass(1_000);
    expect(told).toEqual(alertsOf("PL", 1, 1));
    expect(open()).toEqual([1, 0]);
  },
);

test("ALL of more regions than the log can name is followed over the WebSocket API", async () => {
  const publishTo = (count: number): void => {
    for (let index = 0; index < count; index++) service.publish(`LONG-NAME-${String(index).padStart(6, "0")}`);
  };
  publishTo(100);
  const { client } = startWith({ regions: ["PL", "ALL"], checkMs: 10 * MINUTE });
  await pass(MINUTE);
  expect(open()).toEqual([0, 1]);
  publishTo(200);
  await pass(14 * MINUTE);
  expect(open()).toEqual([1, 0]);
  expect(client.counts.alert).toBe(200);
  // A client that begins now goes there at once.
  const second = startWith({ regions: ["PL", "ALL"] });
  await pass(100);
  expect(second.states).toEqual(["open"]);
  expect([second.client.counts.subscribed, open()]).toEqual([2, [2, 0]]);
  // One that does not watch ALL stays.
  const third = startWith({ regions: [] });
  third.client.watch("LONG-NAME-000199");
  await pass(MINUTE);
  expect(open()).toEqual([2, 1]);
});

test("a region that the token forbids does not keep the others from AppSync", async () => {
  for (const region of ["AA", "BB"]) service.forbidden.add(region);
  const { states, errors } = startWith({ regions: ["AA", "BB", "PL"], token: "t" });
  await pass(1_000);
  expect(states).toEqual(["open"]);
  expect(errors.map(({ code }) => code)).toEqual(["forbidden", "forbidden"]);
  expect([gatewayHandshakes(), open()]).toEqual([0, [0, 1]]);
});

test("a token that forbids all regions costs three requests before the client connects", async () => {
  const regions = ["AA", "BB", "CC", "DD", "EE"];
  for (const region of regions) service.forbidden.add(region);
  startWith({ regions, token: "t" });
  await until(() => open()[0] === 1);
  expect(service.requests.length).toBe(3);
});

test("regions that the log refuses slowly do not hold up the WebSocket API for longer than 4 s", async () => {
  for (const region of ["AA", "BB", "CC"]) service.forbidden.add(region);
  vi.stubGlobal("fetch", async (...given: Parameters<typeof fetch>) => {
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    return service.fetch(...given);
  });
  startWith({ regions: ["AA", "BB", "CC", "PL"], token: "t" });
  await pass(3_900);
  expect(service.handshakes).toEqual([]);
  await pass(200);
  expect(open()).toEqual([1, 0]);
  const { length } = service.requests;
  await pass(3_000);
  expect(service.said.slice(length).filter((one) => one === "GET CC")).toEqual([]);
});
