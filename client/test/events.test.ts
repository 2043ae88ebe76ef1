// The leg of AppSync Events: the client keeps its guarantees over a peer that loses, repeats and reorders.

import { expect, test, vi } from "vitest";
import type { Options } from "../src/viral-alerts.js";
import { eventsSocket, type EventsOptions } from "../src/viral-alerts-events.js";
import { alertsOf, pass, publishUntil, start, until, type Application } from "./application.js";
import { EVENTS } from "./appsync.js";
import { appSync, service, startService } from "./current.js";
import { randomOf } from "./seeded.js";
import { LATENCY } from "./service.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const startWith = (given: Partial<Options & EventsOptions> = {}): Application =>
  start(service, { regions: ["PL"], httpUrl: "https://service.example/", ...given });

/** Open connections to the WebSocket API and to the Event API. */
const open = (): number[] => [service.sockets.size - appSync.sockets.size, appSync.sockets.size];
/** Handshakes with the WebSocket API. */
const gatewayHandshakes = (): number => service.handshakes.filter((url) => url !== EVENTS.url).length;
const channels = (): string[] =>
  [...appSync.sockets].flatMap((socket) => [...socket.channels.values()].map(({ channel }) => channel));

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

test("a look reads more regions than fit in a request", async () => {
  const regions = Array.from({ length: 30 }, (_, index) => `R-${index}`);
  const { told } = startWith({ regions, checkMs: 10 * MINUTE });
  await pass(20_000);
  appSync.deliver = () => [];
  for (const region of regions) publishUntil(service, region, 1);
  await pass(13 * MINUTE);
  expect(told.sort()).toEqual(regions.map((region) => `${region} 1`).sort());
});

/** Subscriptions that clients have asked for. */
const subscriptions = (): string[] => service.said.filter((one) => one.startsWith("subscribe "));

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

test.each([Infinity, 1e300])("a checkMs of %d is a day", async (checkMs) => {
  startWith({ checkMs });
  await pass(MINUTE);
  const before = service.requests.length;
  await pass(17 * HOUR);
  expect(service.requests.length).toBe(before);
});

test("options that cannot be are refused", () => {
  expect(() => eventsSocket({} as never)).toThrow(TypeError("no httpUrl: the log is read there"));
  for (const checkMs of [0, 9_999, NaN, "soon" as never]) {
    const refused = TypeError(`invalid checkMs "${checkMs}": expected at least 10000`);
    expect(() => eventsSocket({ httpUrl: "https://service.example", checkMs })).toThrow(refused);
  }
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

/** Lets one answer of the log, from which on `begins` returns true, take longer, and calls `meanwhile` then. */
function delayOneAnswer(ms: number, begins: () => boolean, meanwhile: () => void): void {
  let isDelayed = false;
  vi.stubGlobal("fetch", async (...given: Parameters<typeof fetch>) => {
    const answer = await service.fetch(...given);
    if (isDelayed || !begins()) return answer;
    isDelayed = true;
    meanwhile();
    await new Promise((resolve) => setTimeout(resolve, ms));
    return answer;
  });
}

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
