// The keepalive finds lost pushes and lost subscriptions, for the price of one message and its answer.

import { expect, test } from "vitest";
import { URL_OF_SERVICE, alertsOf, pass, publishUntil, start } from "./application.js";
import { service } from "./current.js";

const MINUTE = 60_000;
/** Time for one keepalive and everything that follows from it. */
const ONE_KEEPALIVE = 9.6 * MINUTE;
/** Bytes of a frame, and of a unit that is billed. Source: API Gateway. */
const FRAME_BYTES_MAX = 32 * 1_024;

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `R-${index}`);
/** Types of the messages since `from`, each with its regions. */
const said = (from: number): string[] =>
  service.messages.slice(from).map(({ type, regions = [] }) => `${type} ${regions.join()}`);
/** Loses the pushes of the alerts that `publish` publishes. */
function unheard(publish: () => void): void {
  service.deliver = () => [];
  publish();
  service.deliver = () => [10];
}
/** The service loses the subscriptions of all connections to `regions`. */
function forgetSubscriptions(...regions: string[]): void {
  for (const socket of service.sockets) for (const region of regions) socket.regions.delete(region);
}

test("a keepalive is one message with the position of each region", async () => {
  start(service, { regions: ["PL", "DE"] });
  await pass(100);
  publishUntil(service, "PL", 2);
  await pass(ONE_KEEPALIVE);
  expect(service.messages.slice(1)).toEqual([
    {
      type: "keepalive",
      regions: ["PL", "DE"],
      since: { PL: { epoch: service.epoch, seq: 2 }, DE: { epoch: 0, seq: 0 } },
    },
  ]);
});

test("a lost push shows at the next keepalive, and its region alone is asked for again", async () => {
  const { told } = start(service, { regions: ["PL", "DE", "FR"] });
  await pass(100);
  unheard(() => publishUntil(service, "DE", 2));
  await pass(ONE_KEEPALIVE);
  expect(told).toEqual(["DE 1", "DE 2"]);
  expect(said(1)).toEqual(["keepalive PL,DE,FR", "subscribe_region DE"]);
});

test("a lost subscription shows at the next keepalive, although nothing was published", async () => {
  const { told } = start(service, { regions: ["PL", "DE", "FR"] });
  await pass(100);
  forgetSubscriptions("FR", "PL");
  await pass(ONE_KEEPALIVE);
  expect(said(1)).toEqual(["keepalive PL,DE,FR", "subscribe_region PL,FR"]);
  publishUntil(service, "FR", 1);
  await pass(100);
  expect(told).toEqual(["FR 1"]);
});

test("a log that began anew in silence shows at the next keepalive", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  publishUntil(service, "PL", 3);
  await pass(100);
  service.reset();
  unheard(() => publishUntil(service, "PL", 3));
  await pass(ONE_KEEPALIVE);
  expect(told).toEqual([...alertsOf("PL", 1, 3), "PL gap 4-null", ...alertsOf("PL", 1, 3)]);
});

test.each([["PL"], ["ALL"]])(
  "a log that has expired is a gap, and its region is followed from the beginning of the next one: %s",
  async (region) => {
    publishUntil(service, "PL", 1);
    const { told } = start(service, { regions: [region], httpUrl: "https://service.example" });
    await pass(100);
    publishUntil(service, "PL", 3);
    await pass(100);
    service.reset();
    await pass(2 * ONE_KEEPALIVE);
    expect(said(1)).toEqual([`keepalive ${region}`, `subscribe_region ${region}`, `keepalive ${region}`]);
    publishUntil(service, "PL", 2);
    await pass(100);
    expect(told).toEqual(["PL 2", "PL 3", "PL gap 4-null", "PL 1", "PL 2"]);
  },
);

test.each([1, 25, 60, 100])(
  "%i regions that have missed nothing are one message, and nothing is asked for again",
  async (count) => {
    const regions = names(count);
    for (const region of regions) service.publish(region);
    start(service, { regions });
    await pass(1_000);
    const before = service.messages.length;
    await pass(3 * ONE_KEEPALIVE);
    expect(said(before)).toEqual(Array(3).fill(`keepalive ${regions.join()}`));
  },
);

test.each([25, 60])("of %i regions those that miss something are asked for in one message", async (count) => {
  const regions = names(count);
  const { told } = start(service, { regions });
  await pass(1_000);
  const before = service.messages.length;
  forgetSubscriptions("R-7");
  unheard(() => publishUntil(service, "R-20", 2));
  await pass(ONE_KEEPALIVE);
  expect(told).toEqual(["R-20 1", "R-20 2"]);
  expect(said(before)).toEqual([`keepalive ${regions.join()}`, "subscribe_region R-7,R-20"]);
});

test("ALL is compared region by region, those that came into being included, and is asked for as ALL", async () => {
  publishUntil(service, "PL", 1);
  const { told } = start(service, { regions: ["ALL"] });
  await pass(100);
  unheard(() => publishUntil(service, "NEW", 2));
  await pass(ONE_KEEPALIVE);
  expect(told).toEqual(["NEW 1", "NEW 2"]);
  forgetSubscriptions("ALL");
  await pass(ONE_KEEPALIVE);
  publishUntil(service, "PL", 2);
  await pass(100);
  expect(told.at(-1)).toBe("PL 2");
  await pass(ONE_KEEPALIVE);
  expect(said(1)).toEqual([
    "keepalive ALL",
    "subscribe_region ALL",
    "keepalive ALL",
    "subscribe_region ALL",
    "keepalive ALL",
  ]);
});

test("a keepalive of ALL with the longest positions of 300 regions fits in a frame", async () => {
  service.epoch = Number.MAX_SAFE_INTEGER;
  for (let index = 0; index < 300; index++) service.publish(`REGION-${String(index).padStart(9, "0")}`);
  start(service, { regions: ["ALL"] });
  await pass(ONE_KEEPALIVE);
  const { since } = service.messages.at(-1)!;
  expect(Object.keys(since!).length).toBe(300);
  const { type, bytes } = service.frames.at(-2)!;
  expect(type).toBe("keepalive");
  // The longest numbers have 15 digits more than these.
  expect(bytes + 300 * 15).toBeLessThan(FRAME_BYTES_MAX);
});

test("a service that does not know the message is asked for everything again", async () => {
  service.knowsKeepalive = false;
  const { told, errors, states } = start(service, { regions: names(30) });
  await pass(1_000);
  forgetSubscriptions("R-3");
  unheard(() => publishUntil(service, "R-4", 1));
  await pass(ONE_KEEPALIVE);
  publishUntil(service, "R-3", 1);
  await pass(100);
  expect(told).toEqual(["R-4 1", "R-3 1"]);
  expect(said(2).map((message) => message.split(" ")[0])).toEqual([
    "keepalive",
    "subscribe_region",
    "subscribe_region",
  ]);
  expect(errors).toEqual([]);
  expect(states).toEqual(["open"]);
});

test.each(["keepalive", "subscription"])(
  "a connection that the service takes for closed is replaced at its next %s",
  async (what) => {
    const { client, told, errors } = start(service, { regions: ["PL"] });
    await pass(100);
    for (const socket of service.sockets) Object.assign(socket, { isMarkedClosed: true }).regions.clear();
    publishUntil(service, "PL", 1);
    if (what === "subscription") client.watch("DE");
    await pass(what === "keepalive" ? ONE_KEEPALIVE : 6_000);
    expect(service.handshakes.length).toBe(2);
    expect(service.sockets.size).toBe(1);
    publishUntil(service, "PL", 2);
    await pass(100);
    expect(told).toEqual(["PL 1", "PL 2"]);
    expect(errors).toEqual([]);
  },
);

test.each([
  ["the gateway in few words", { message: "Too Many Requests" }, 5_000],
  ["the gateway", { message: "Too Many Requests", connectionId: "c", requestId: "r" }, 5_000],
  [
    "the service",
    { type: "error", code: "rate_limited", message: "no", retryable: true, retry_after_ms: 20_000 },
    20_000,
  ],
  ["a failure", { type: "error", code: "unavailable", message: "no", retryable: true }, 5_000],
])("a keepalive and a subscription that %s holds back are repeated", async (_, frame, within) => {
  const { client, told, errors } = start(service, { regions: ["PL"] });
  await pass(100);
  unheard(() => publishUntil(service, "PL", 1));
  service.nextAnswer = frame;
  await pass(9.5 * MINUTE + within + 100);
  expect(told).toEqual(["PL 1"]);
  expect(said(1)).toEqual(["keepalive PL", "keepalive PL", "subscribe_region PL"]);
  service.nextAnswer = frame;
  client.watch("DE");
  await pass(within + 100);
  publishUntil(service, "DE", 1);
  await pass(100);
  expect(told.at(-1)).toBe("DE 1");
  expect(said(4)).toEqual(["subscribe_region DE", "subscribe_region DE"]);
  expect(service.handshakes.length).toBe(1);
  expect(errors).toEqual([]);
});

test("what is rate limited is repeated when the service says, and not before", async () => {
  service.nextAnswer = { type: "error", code: "rate_limited", message: "no", retryable: true, retry_after_ms: 20_000 };
  start(service, { regions: ["PL"] });
  await pass(20_029);
  expect(service.messages.length).toBe(1);
  await pass(2);
  expect(service.messages.length).toBe(2);
});

test("regions beyond the limit are refused, the others are followed, and room is made before it is taken", async () => {
  const regions = names(101);
  const { client, told, errors } = start(service, { regions });
  await pass(60_000);
  expect(errors).toMatchObject([{ code: "limit_reached", terminal: false }]);
  for (const region of regions) service.publish(region);
  await pass(100);
  expect(told.length).toBe(100);
  const [socket] = service.sockets;
  const refused = regions.find((region) => !socket!.regions.has(region))!;
  const before = service.messages.length;
  await pass(10 * 9.5 * MINUTE);
  expect(new Set(service.messages.slice(before).map(({ type }) => type))).toEqual(new Set(["keepalive"]));
  const left = regions.find((region) => region !== refused)!;
  client.unwatch(left);
  client.unwatch(refused);
  client.watch(refused);
  await pass(1_000);
  expect(errors.length).toBe(1);
  service.publish(refused);
  await pass(100);
  expect(told.at(-1)).toBe(`${refused} 2`);
});

test("frames of an unknown kind are neither answers nor alerts", async () => {
  const { told, errors } = start(service, { regions: ["PL"] });
  await pass(15);
  const [socket] = service.sockets;
  const video = { id: "v", title: "t" };
  for (const frame of [
    { type: "announcement", region: "PL", video },
    { event: "video_removed", region: "PL", seq: 1, epoch: service.epoch, video_id: "v", title: "t" },
    { event: "announcement", message: "maintenance" },
    { type: "count", region: "PL", count: 3 },
    { text: "hello" },
    {},
  ]) {
    socket!.receives(frame, 1);
  }
  await pass(60_000);
  expect(service.messages.length).toBe(1);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1"]);
  expect(errors).toEqual([]);
});

test("a message is sent after 9.5 minutes of silence and not before", async () => {
  start(service, { regions: ["PL"] });
  await pass(100);
  const pings = () => service.messages.length - 1;
  await pass(9 * MINUTE);
  expect(pings()).toBe(0);
  await pass(MINUTE);
  expect(pings()).toBe(1);
  await pass(19 * MINUTE);
  expect(pings()).toBe(3);
  expect(service.handshakes.length).toBe(1);
});

test("what was lost in silence comes to light with the keepalive", async () => {
  const { told } = start(service, { regions: ["PL", "DE"] });
  await pass(100);
  service.deliver = () => [];
  publishUntil(service, "PL", 1);
  for (const socket of service.sockets) socket.regions.clear();
  service.deliver = () => [10];
  publishUntil(service, "DE", 1);
  await pass(9.6 * MINUTE);
  expect(told).toEqual(["PL 1", "DE 1"]);
  publishUntil(service, "PL", 2);
  await pass(100);
  expect(told.at(-1)).toBe("PL 2");
});

test("what was lost in one region comes to light however busy another one is", async () => {
  const { told } = start(service, { regions: ["PL", "DE"] });
  await pass(100);
  for (const socket of service.sockets) socket.regions.delete("DE");
  publishUntil(service, "DE", 1);
  for (let minute = 0; minute < 10; minute++) {
    service.publish("PL");
    await pass(MINUTE);
  }
  expect(told).toContain("DE 1");
});

test("a push of the other form is not taken for an answer", async () => {
  const { subscribed } = start(service, { url: `${URL_OF_SERVICE}?region=AE`, regions: ["PL"] });
  await pass(11);
  service.publish("AE");
  await pass(10_000);
  expect(subscribed.length).toBe(1);
  expect(service.messages.filter(({ type }) => type === "subscribe_region").length).toBe(1);
});

test("a client without regions keeps its connection by a ping", async () => {
  start(service);
  await pass(10 * MINUTE);
  expect(service.messages).toEqual([{ type: "ping" }]);
});

test("the keepalive repairs a subscription, whatever else is asked for meanwhile", async () => {
  const { client, told } = start(service, { regions: ["PL"] });
  await pass(100);
  for (const { regions } of service.sockets) regions.clear();
  publishUntil(service, "PL", 1);
  for (const _ of Array(3)) {
    client.watch("DE");
    await pass(2 * MINUTE);
    client.unwatch("DE");
    await pass(2 * MINUTE);
  }
  expect(told).toEqual(["PL 1"]);
});
