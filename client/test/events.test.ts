// Alerts over AppSync Events: the client keeps its guarantees over a peer that loses, repeats and reorders.

import { expect, test, vi } from "vitest";
import { eventsSocket } from "../src/viral-alerts-events.js";
import { alertsOf, pass, publishUntil, until } from "./application.js";
import { EVENTS } from "./appsync.js";
import { appSync, service, startService } from "./current.js";
import { MINUTE, delayOneAnswer, open, startWith } from "./event-api.js";
import { randomOf } from "./seeded.js";
import { LATENCY } from "./service.js";

test("alerts come over AppSync, each once and in order, from the subscription on", async () => {
  publishUntil(service, "PL", 3);
  const { told, subscribed, states } = startWith();
  await pass(1_000);
  expect(subscribed).toEqual([{ region: "PL", positions: { PL: { epoch: service.epoch, seq: 3 } } }]);
  appSync.deliver = ({ seq }) => (seq === 4 ? [30, 40] : [LATENCY]);
  publishUntil(service, "PL", 6);
  await pass(100);
  expect(told).toEqual(alertsOf("PL", 4, 6));
  expect(states).toEqual(["open"]);
  expect(service.handshakes).toEqual([EVENTS.url]);
  expect(open()).toEqual([0, 1]);
  expect(appSync.handshakes).toEqual([{ host: EVENTS.host, Authorization: "anonymous" }]);
});

test("the event may be a list, and anything else is ignored", async () => {
  appSync.wrap = (text) => ["7", "null", "{", text];
  const { told } = startWith();
  await pass(1_000);
  publishUntil(service, "PL", 2);
  await pass(100);
  expect(told).toEqual(alertsOf("PL", 1, 2));
});

test("what is published while it subscribes comes once, also if AppSync begins late", async () => {
  appSync.lateMs = 300;
  const { told, subscribed } = startWith();
  while (!subscribed.length) {
    service.publish("PL");
    await pass(1);
  }
  const from = subscribed[0]!.positions["PL"]!.seq + 1;
  for (let more = 0; more < 20; more++) {
    service.publish("PL");
    await pass(10);
  }
  await pass(11_000);
  expect(told).toEqual(alertsOf("PL", from, service.head("PL").seq));
});

test("an alert that was lost is found where a number is missing", async () => {
  const { told } = startWith();
  await pass(20_000);
  appSync.deliver = ({ seq }) => (seq === 2 ? [] : [LATENCY]);
  publishUntil(service, "PL", 3);
  await pass(1_000);
  expect(told).toEqual(alertsOf("PL", 1, 3));
});

test("whatever is lost, repeated, reordered and cut: each alert once and in order", { timeout: 60_000 }, async () => {
  for (let seed = 0; seed < 60; seed++) {
    const random = randomOf(seed);
    vi.mocked(Math.random).mockImplementation(randomOf(seed + 1_000));
    startService();
    const regions = random() < 0.3 ? ["ALL"] : ["PL", "DE"];
    const { client, told, errors } = startWith({ regions, checkMs: 10_000 });
    appSync.deliver = () => [10, 20, 900].filter(() => random() < 0.4).map((delay) => delay * (0.5 + random()));
    appSync.lateMs = random() * 500;
    await pass(1_000);
    for (let step = 0; step < 100; step++) {
      const chance = random();
      if (chance < 0.6) service.publish(random() < 0.5 ? "PL" : "DE");
      else if (chance > 0.95) service.cut();
      else if (chance > 0.93) for (const socket of appSync.sockets) socket.channels.clear();
      else if (chance > 0.91) service.status = service.status === 200 ? 503 : 200;
      else if (chance > 0.9) service.events = { ...EVENTS, share: random() < 0.5 ? 100 : 0 };
      await pass(random() * 500);
    }
    service.status = 200;
    // The last alert may be lost: a look finds it.
    await pass(3 * MINUTE);
    for (const region of ["PL", "DE"]) {
      const seen = told.filter((alert) => alert.startsWith(region));
      expect(seen, `seed ${seed}`).toEqual(alertsOf(region, 1, service.head(region).seq));
    }
    expect(errors).toEqual([]);
    client.close();
  }
});

test("what was missed comes in pages with the subscription", async () => {
  const { told, states } = startWith();
  await pass(20_000);
  service.cut();
  publishUntil(service, "PL", 450);
  while (states.at(-1) !== "open" || states.length < 2) await pass(10);
  await pass(100);
  expect(told).toEqual(alertsOf("PL", 1, 450));
});

test("frames of AppSync that are broken or unknown are passed over", async () => {
  const { told } = startWith();
  await pass(1_000);
  const [socket] = appSync.sockets;
  const broken = [undefined, [null, 7], "7", '{"type":"subscribed"}', '{"code":"connection_closed"}'].map((event) =>
    JSON.stringify({ type: "data", event }),
  );
  for (const data of ["", "{", "null", "7", "[]", '{"type":7}', ...broken]) {
    socket!.onmessage!({ data } as never);
  }
  socket!.receives({ type: "broadcast_error", id: "0", errors: [{ errorType: "MessageProcessingError" }] }, 1);
  socket!.receives({ type: "data", id: "0", event: '{"type":"viral_alert"}' }, 1);
  publishUntil(service, "PL", 1);
  await pass(100);
  expect(told).toContain("PL 1");
  expect(appSync.handshakes.length).toBe(1);
});

test("options that cannot be are refused", () => {
  expect(() => eventsSocket({} as never)).toThrow(TypeError("no httpUrl: the log is read there"));
  for (const checkMs of [0, 9_999, NaN, "soon" as never]) {
    const refused = TypeError(`invalid checkMs "${checkMs}": expected at least 10000`);
    expect(() => eventsSocket({ httpUrl: "https://service.example", checkMs })).toThrow(refused);
  }
});

test("a log that is busy is not asked for each alert that arrives", async () => {
  const regions = Array.from({ length: 8 }, (_, index) => `R${index}`);
  const { told } = startWith({ regions });
  await pass(1_000);
  service.status = 429;
  service.cut();
  for (const region of regions) publishUntil(service, region, 2);
  const { length } = service.requests;
  for (let second = 0; second < 40; second++) {
    await pass(1_000);
    for (const region of regions) service.publish(region);
  }
  // The fallback and the subscription both ask, with pauses that grow to 30 s.
  expect(service.requests.length - length).toBeLessThan(30);
  service.status = 200;
  await pass(70_000);
  for (const region of regions)
    expect(told.filter((alert) => alert.startsWith(`${region} `))).toEqual(alertsOf(region, 1, 42));
});

test("an alert that arrives while the log is read is told after what the log has", async () => {
  const { told } = startWith();
  await pass(1_000);
  service.cut();
  publishUntil(service, "PL", 1);
  appSync.deliver = () => [10];
  let published = 0;
  const publish = (): void => {
    publishUntil(service, "PL", 3);
    published = Date.now();
  };
  delayOneAnswer(1_000, () => appSync.sockets.size > 0, publish);
  await until(() => published > 0, 100);
  await pass(2_000);
  expect(told).toEqual(alertsOf("PL", 1, 3));
});
