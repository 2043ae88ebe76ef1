// What clients find out without a push: the keepalive shows lost pushes and lost subscriptions, for the price of one
// message and its answer. On the leg of AppSync a look at the log does.

import { expect, test, vi } from "vitest";
import { BACK, ONE_CHECK, SETTLED, URL_OF_SERVICE, alertsOf, pass, publishUntil, start, until } from "./application.js";
import { appSync, service } from "./current.js";
import { leg, on } from "./legs.js";

const MINUTE = 60_000;
/** Bytes of a frame, and of a unit that is billed. Source: API Gateway. */
const FRAME_BYTES_MAX = 32 * 1_024;

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `R-${index}`);
/** What clients said since `from`, without their positions. */
const said = (from: number): string[] => service.said.slice(from).map((one) => one.replace(/ after .*/, ""));
/** What looks at the log of `regions` say: 25 regions fit in a request. */
const looks = (regions: string[]): string[] =>
  regions.flatMap((_, index) => (index % 25 ? [] : [`GET ${regions.slice(index, index + 25).join()}`]));
/** Loses the pushes of the alerts that `publish` publishes. */
function unheard(publish: () => void): void {
  service.deliver = () => [];
  publish();
  service.deliver = () => [10];
}

test("a keepalive is one message with the position of each region", async () => {
  start(service, { regions: ["PL", "DE"] });
  await pass(SETTLED);
  const { length } = service.said;
  publishUntil(service, "PL", 2);
  await pass(ONE_CHECK);
  const checks = on({ gateway: "keepalive PL,DE after DE 0,PL 2", events: "GET PL,DE after DE 0,PL 2" });
  expect(service.said.slice(length)).toEqual([checks]);
});

test("a lost push shows at the next keepalive, and its region alone is asked for again", async () => {
  const { told } = start(service, { regions: ["PL", "DE", "FR"] });
  await pass(SETTLED);
  const { length } = service.said;
  unheard(() => publishUntil(service, "DE", 2));
  await pass(ONE_CHECK);
  expect(told).toEqual(["DE 1", "DE 2"]);
  // Whether the channel has ended is not to be seen, so a look that finds alerts is followed by another channel.
  const events = ["GET PL,DE,FR", "subscribe DE", "unsubscribe DE", "GET PL,DE,FR"];
  expect(said(length)).toEqual(on({ gateway: ["keepalive PL,DE,FR", "subscribe_region DE"], events }));
});

test("a lost subscription shows at the next keepalive, although nothing was published", async () => {
  const { told } = start(service, { regions: ["PL", "DE", "FR"] });
  await pass(100);
  service.loseSubscriptions("FR", "PL");
  await pass(ONE_CHECK);
  expect(said(1)).toEqual(["keepalive PL,DE,FR", "subscribe_region PL,FR"]);
  publishUntil(service, "FR", 1);
  await pass(100);
  expect(told).toEqual(["FR 1"]);
});

test("a log that began anew in silence shows at the next keepalive", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(SETTLED);
  publishUntil(service, "PL", 3);
  await pass(100);
  service.reset();
  unheard(() => publishUntil(service, "PL", 3));
  await pass(ONE_CHECK + BACK);
  expect(told).toEqual([...alertsOf("PL", 1, 3), "PL gap 4-null", ...alertsOf("PL", 1, 3)]);
});

test.each([["PL"], ["ALL"]])(
  "a log that has expired is a gap, and its region is followed from the beginning of the next one: %s",
  async (region) => {
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    publishUntil(service, "PL", 1);
    const { told } = start(service, { regions: [region], httpUrl: "https://service.example" });
    await pass(SETTLED);
    publishUntil(service, "PL", 3);
    await pass(100);
    const { length } = service.said;
    service.reset();
    await pass(2 * ONE_CHECK);
    const look = `GET ${region}`;
    const gateway = [`keepalive ${region}`, `subscribe_region ${region}`, `keepalive ${region}`];
    // The client that is not told by a look where the log is connects again.
    const events = [look, `subscribe ${region}`, look, look, look];
    expect(said(length)).toEqual(on({ gateway, events }));
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
    await pass(SETTLED);
    const { length } = service.said;
    await pass(ONE_CHECK);
    expect(said(length)).toEqual(on({ gateway: [`keepalive ${regions.join()}`], events: looks(regions) }));
  },
);

test.each([25, 60])("of %i regions those that miss something are asked for in one message", async (count) => {
  const regions = names(count);
  const { told } = start(service, { regions });
  await pass(SETTLED);
  const { length } = service.said;
  service.loseSubscriptions("R-7");
  publishUntil(service, "R-7", 1);
  unheard(() => publishUntil(service, "R-20", 2));
  await pass(ONE_CHECK);
  expect(told).toEqual(["R-7 1", "R-20 1", "R-20 2"]);
  const gateway = [`keepalive ${regions.join()}`, "subscribe_region R-7,R-20"];
  const renewed = ["subscribe R-7", "subscribe R-20", "unsubscribe R-7", "unsubscribe R-20"];
  const found = said(length);
  expect(found).toEqual(on({ gateway, events: [...looks(regions), ...renewed, ...looks(regions)] }));
});

test("ALL is compared region by region, those that came into being included, and is asked for as ALL", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  publishUntil(service, "PL", 1);
  const { told } = start(service, { regions: ["ALL"] });
  await pass(SETTLED);
  const { length } = service.said;
  unheard(() => publishUntil(service, "NEW", 2));
  await pass(ONE_CHECK);
  expect(told).toEqual(["NEW 1", "NEW 2"]);
  service.loseSubscriptions("ALL");
  publishUntil(service, "PL", 2);
  await pass(ONE_CHECK);
  expect(told.at(-1)).toBe("PL 2");
  publishUntil(service, "PL", 3);
  await pass(100);
  expect(told.at(-1)).toBe("PL 3");
  await pass(ONE_CHECK);
  const gateway = ["keepalive ALL", "subscribe_region ALL", "keepalive ALL", "subscribe_region ALL", "keepalive ALL"];
  const renewed = ["GET ALL", "subscribe ALL", "unsubscribe ALL", "GET ALL"];
  expect(said(length)).toEqual(on({ gateway, events: [...renewed, ...renewed, "GET ALL"] }));
});

test("a keepalive of ALL with the longest positions of 300 regions fits in a frame", async () => {
  service.epoch = Number.MAX_SAFE_INTEGER;
  for (let index = 0; index < 300; index++) service.publish(`REGION-${String(index).padStart(9, "0")}`);
  start(service, { regions: ["ALL"] });
  await pass(ONE_CHECK);
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
  service.loseSubscriptions("R-3");
  unheard(() => publishUntil(service, "R-4", 1));
  await pass(ONE_CHECK);
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
    service.loseSubscriptions();
    for (const socket of service.sockets) Object.assign(socket, { isMarkedClosed: true });
    publishUntil(service, "PL", 1);
    if (what === "subscription") client.watch("DE");
    await pass(what === "keepalive" ? ONE_CHECK : 6_000);
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
  if (leg === "events") appSync.channelsMax = 100;
  const regions = names(101);
  const { client, told, errors } = start(service, { regions });
  await pass(60_000);
  expect(errors).toMatchObject([{ code: "limit_reached", terminal: false }]);
  for (const region of regions) service.publish(region);
  await pass(100);
  expect(told.length).toBe(100);
  const [socket] = service.sockets;
  const refused = regions.find((region) => !socket!.regions.has(region))!;
  const { length } = service.said;
  await pass(10 * 9.5 * MINUTE);
  const kinds = new Set(said(length).map((one) => one.split(" ")[0]));
  expect(kinds).toEqual(new Set([on({ gateway: "keepalive", events: "GET" })]));
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
  // The answer to the subscription is on its way.
  await until(() => !![...service.sockets][0]?.regions.size);
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
    socket!.pushes(frame, 1);
  }
  await pass(60_000);
  const events = ["GET PL", "subscribe PL", "GET PL", "GET PL"];
  expect(said(0)).toEqual(on({ gateway: ["subscribe_region PL"], events }));
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
  await pass(SETTLED);
  unheard(() => publishUntil(service, "PL", 1));
  service.loseSubscriptions();
  publishUntil(service, "DE", 1);
  await pass(ONE_CHECK);
  expect(told).toEqual(["PL 1", "DE 1"]);
  publishUntil(service, "PL", 2);
  await pass(100);
  expect(told.at(-1)).toBe("PL 2");
});

test("what was lost in one region comes to light however busy another one is", async () => {
  const { told } = start(service, { regions: ["PL", "DE"] });
  await pass(SETTLED);
  service.loseSubscriptions("DE");
  publishUntil(service, "DE", 1);
  for (let passed = 0; passed < ONE_CHECK; passed += MINUTE) {
    service.publish("PL");
    await pass(MINUTE);
  }
  publishUntil(service, "DE", 2);
  await pass(100);
  expect(told.filter((alert) => alert.startsWith("DE"))).toEqual(["DE 1", "DE 2"]);
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
  expect(service.said).toEqual(on({ gateway: ["ping"], events: ["GET ALL", "unsubscribe ping"] }));
});

test("the keepalive repairs a subscription, whatever else is asked for meanwhile", async () => {
  const { client, told } = start(service, { regions: ["PL"] });
  await pass(100);
  service.loseSubscriptions();
  publishUntil(service, "PL", 1);
  for (const _ of Array(3)) {
    client.watch("DE");
    await pass(2 * MINUTE);
    client.unwatch("DE");
    await pass(2 * MINUTE);
  }
  expect(told).toEqual(["PL 1"]);
});
