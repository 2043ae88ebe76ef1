import { expect, test, vi } from "vitest";
import { ViralAlertsError, type ViralAlert } from "../src/viral-alerts.js";
import { BACK, alertsOf, pass, publishUntil, start, until } from "./application.js";
import { Browser } from "./browser.js";
import { appSync, refuseOnce, service, whenAnswered } from "./current.js";
import { leg, on } from "./legs.js";

const MINUTE = 60_000;

/** Draws the same number every time. */
const draw = (value: number): void => void vi.spyOn(Math, "random").mockReturnValue(value);
/** What clients said, in short, if it begins so. */
const said = (begin: RegExp): string[] => service.said.filter((one) => begin.test(one));

test("alerts arrive from the acknowledgement on, once and in order", async () => {
  publishUntil(service, "PL", 3);
  const { told, states, subscribed, client } = start(service, { regions: [" pl "] });
  await pass(100);
  publishUntil(service, "PL", 5);
  service.publish("DE");
  await pass(100);
  expect(told).toEqual(["PL 4", "PL 5"]);
  expect(states).toEqual(["open"]);
  expect(subscribed).toEqual([{ region: "PL", positions: { PL: { epoch: service.epoch, seq: 3 } } }]);
  expect(client.watched).toEqual(["PL"]);
  expect(service.said).toEqual(on({ gateway: ["subscribe_region PL"], events: ["GET PL", "subscribe PL", "GET PL"] }));
});

test("an alert that is pushed before the acknowledgement is not lost", async () => {
  whenAnswered(() => publishUntil(service, "PL", 1));
  const { told } = start(service, { regions: ["ALL"] });
  const other = start(service, { regions: ["PL"] });
  await pass(100);
  expect(told).toEqual(["PL 1"]);
  expect(other.subscribed[0]!.positions["PL"]!.seq + other.told.length).toBe(1);
});

test("an alert that is pushed while other regions are still asked for is not lost", async () => {
  const regions = Array.from({ length: 60 }, (_, index) => `R-${index}`);
  const { told, subscribed } = start(service, { regions });
  await until(() => subscribed.length > 0);
  expect(subscribed.length).toBe(25);
  publishUntil(service, "R-0", 1);
  await pass(100);
  expect(told).toEqual(["R-0 1"]);
});

test.each([
  [1006, 0.5, on({ gateway: 2_500, events: 30_000 })],
  [1012, 0.5, on({ gateway: 15_000, events: 30_000 })],
  [1012, 0.1, on({ gateway: 3_000, events: 6_000 })],
  [1008, 0.5, on({ gateway: 62_500, events: 90_000 })],
  [1008, 0, 60_000],
])("after close code %i a client that draws %f comes back in %i ms", async (code, drawn, retryInMs) => {
  const { client } = start(service, { regions: ["PL"] });
  await pass(100);
  draw(drawn);
  service.cut(code);
  expect(client.state).toEqual({ state: "waiting", retryInMs });
  await pass(retryInMs - 1);
  expect(service.handshakes.length).toBe(1);
  await pass(1);
  expect(service.handshakes.length).toBe(2);
});

test("a window that the service advises for a restart is not made smaller", async () => {
  service.advice.reconnect_within_ms = 60_000;
  const { client } = start(service, { regions: ["PL"] });
  await pass(100);
  draw(0.5);
  service.cut(1012);
  expect(client.state).toEqual({ state: "waiting", retryInMs: 30_000 });
});

test("a client that sent too much waits though somebody looks, and tries again at once after its wait", async () => {
  const browser = new Browser();
  const { states } = start(service, { regions: ["PL"] });
  await pass(100);
  draw(0);
  service.cut(1008);
  browser.show();
  browser.happens("offline");
  browser.happens("online");
  await pass(59_000);
  expect(service.handshakes.length).toBe(1);
  service.refuses = true;
  await pass(2_000);
  expect(states.at(-1)).toBe("waiting");
  const attempts = service.handshakes.length;
  browser.show();
  await pass(100);
  expect(service.handshakes.length).toBeGreaterThan(attempts);
});

test("many regions are asked for in messages of 25", async () => {
  const regions = Array.from({ length: 60 }, (_, index) => `R-${index}`);
  start(service, { regions });
  await pass(200);
  // AppSync takes one channel in a message, and clients read the log of 25 regions at once.
  const messages = said(/^(subscribe_region|GET) /).map((one) => one.split(",").length);
  expect(messages).toEqual(on({ gateway: [25, 25, 10], events: [1, 25, 25, 10] }));
  expect(said(/^subscribe /).length).toBe(on({ gateway: 0, events: 60 }));
});

test("a region that is left is unsubscribed, and begins anew when it is watched again", async () => {
  const { client, told } = start(service, { regions: ["PL", "DE"] });
  await pass(100);
  client.unwatch("pl");
  await pass(100);
  expect(service.said.at(-1)).toBe(on({ gateway: "unsubscribe_region PL", events: "unsubscribe PL" }));
  service.publish("PL");
  client.watch("PL");
  await pass(100);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 2"]);
});

test("a region that is left and watched again at once is subscribed when the service says so", async () => {
  const { client, told, subscribed } = start(service, { regions: ["PL", "DE"] });
  await pass(100);
  client.unwatch("PL");
  client.watch("PL");
  expect(subscribed.length).toBe(2);
  await pass(5);
  service.publish("PL");
  await pass(100);
  expect(subscribed.slice(2)).toEqual([{ region: "PL", positions: { PL: { epoch: service.epoch, seq: 1 } } }]);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 2"]);
});

test("a region that is left and watched again while something else is asked for is asked for again", async () => {
  const { client, told, subscribed } = start(service, { regions: ["PL"] });
  await pass(100);
  client.watch("DE");
  await pass(5);
  client.unwatch("PL");
  client.watch("PL");
  await pass(100);
  expect(subscribed.map(({ region }) => region)).toEqual(["PL", "DE", "PL"]);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1"]);
});

test("repeats are dropped, and an early alert waits for the one before", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  const { length } = service.said;
  const delays = [[300, 310], [10, 20], [200]];
  service.deliver = ({ seq }) => delays[seq! - 1]!;
  publishUntil(service, "PL", 3);
  await pass(250);
  expect(told).toEqual([]);
  await pass(100);
  expect(told).toEqual(["PL 1", "PL 2", "PL 3"]);
  expect(service.said.length).toBe(length);
});

test("an alert that does not come is asked for once, with the position", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  const { length } = service.said;
  service.deliver = ({ seq }) => (seq === 2 ? [] : [10]);
  publishUntil(service, "PL", 4);
  await pass(400);
  expect(told).toEqual(["PL 1"]);
  await pass(500);
  expect(told).toEqual(["PL 1", "PL 2", "PL 3", "PL 4"]);
  const asks = on({ gateway: "subscribe_region PL after PL 1", events: "GET PL after PL 1" });
  expect(service.said.slice(length)).toEqual([asks]);
});

test("after a cut the client comes back within the advised window and has missed nothing", async () => {
  const { told, states } = start(service, { regions: ["PL", "DE"] });
  await pass(100);
  publishUntil(service, "PL", 2);
  await pass(100);
  draw(0.5);
  service.cut();
  publishUntil(service, "PL", 4);
  publishUntil(service, "DE", 1);
  expect(states.at(-1)).toBe("waiting");
  await pass(on({ gateway: 2_499, events: 29_999 }));
  expect(service.handshakes.length).toBe(1);
  await pass(101);
  expect(service.handshakes.length).toBe(2);
  publishUntil(service, "PL", 5);
  await pass(100);
  expect(told.filter((alert) => alert.startsWith("PL"))).toEqual(alertsOf("PL", 1, 5));
  expect(told).toContain("DE 1");
  expect(said(/^subscribe/).length).toBe(on({ gateway: 2, events: 4 }));
});

test("the pause is anything up to the window, which doubles with each failure up to a bound", async () => {
  const { states, client } = start(service, { regions: ["PL"], httpUrl: undefined });
  await pass(100);
  const windows: number[] = [];
  client.addEventListener(
    "state",
    ({ detail }) => detail.state === "waiting" && windows.push(Math.round(detail.retryInMs)),
  );
  draw(1);
  service.refuses = true;
  service.cut();
  await pass(6 * MINUTE);
  // The bound applies to a window that doubles, not to the advised one.
  const gateway = [5_000, 10_000, 20_000, 30_000, 30_000, 30_000];
  expect(windows.slice(0, 6)).toEqual(on({ gateway, events: Array(6).fill(60_000) }));
  service.refuses = false;
  await pass(MINUTE);
  expect(states.at(-1)).toBe("open");
  windows.length = 0;
  draw(0);
  service.cut();
  expect(windows).toEqual([0]);
});

test("the advice of the service sets the window, and an option counts more", async () => {
  service.advice = { reconnect_within_ms: 60_000, rotate_after_ms: 6_600_000 };
  const advised = start(service, { regions: ["PL"] });
  const given = start(service, { regions: ["PL"], reconnectWithinMs: 100 });
  await pass(100);
  draw(0.99);
  service.cut();
  expect(advised.client.state).toEqual({ state: "waiting", retryInMs: 59_400 });
  expect(given.client.state).toEqual({ state: "waiting", retryInMs: 99 });
});

test("options without an end do not hammer the service", async () => {
  start(service, { regions: ["PL"], rotateAfterMs: Infinity, keepaliveMs: Infinity });
  await pass(60_000);
  expect(service.handshakes.length).toBe(1);
  const events = ["GET PL", "subscribe PL", "GET PL", "GET PL after PL 0"];
  expect(service.said).toEqual(on({ gateway: ["subscribe_region PL"], events }));
});

test.each([0, Infinity])("a window of %d for coming back does not hammer the service", async (reconnectWithinMs) => {
  start(service, { regions: ["PL"], reconnectWithinMs });
  await pass(100);
  service.refuses = true;
  service.cut();
  await pass(60_000);
  expect(service.handshakes.length).toBeLessThan(20);
});

test("a peer that does not answer is left", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  service.silent = true;
  service.publish("PL");
  // A keepalive is not answered within 15 s, or no `ka` comes for 65 s.
  await pass(on({ gateway: 9.5 * MINUTE + 14_000, events: 64_000 }));
  expect(service.handshakes.length).toBe(1);
  service.silent = false;
  await pass(4_000 + BACK);
  expect(service.handshakes.length).toBe(2);
  expect(told).toEqual(["PL 1"]);
});

test("a subscription without an answer is not waited for, whatever else arrives", async () => {
  service.losesAnswer = true;
  const { told } = start(service, { regions: ["PL"], httpUrl: undefined });
  await pass(100);
  for (const socket of service.sockets) socket.pushes({ type: "pong" }, 10);
  for (let second = 0; second < 14; second++) {
    service.publish("PL");
    await pass(1_000);
  }
  expect(service.handshakes.length).toBe(1);
  expect(service.sockets.size).toBe(1);
  await pass(4_000 + BACK);
  expect(service.handshakes.length).toBe(2);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 15"]);
});

test("a handshake that hangs is given up", async () => {
  service.silent = true;
  start(service, { regions: ["PL"] });
  await pass(15_000);
  service.silent = false;
  await pass(6_000);
  expect(service.handshakes.length).toBe(2);
  expect(service.sockets.size).toBe(1);
});

test("a handshake that fails as in Node.js 22, with an error and without a close, is made again", async () => {
  let fails = true;
  class Socket extends service.WebSocket {
    constructor(url: string, protocols?: string[]) {
      super(url, protocols);
      if (!fails) return;
      this.ends = () => this.onerror?.({} as never);
    }
  }
  service.refuses = true;
  const { states } = start(service, { regions: ["PL"], WebSocket: Socket });
  await pass(1_000);
  expect(states.at(-1)).toBe("waiting");
  fails = service.refuses = false;
  await pass(31_000);
  expect(states.at(-1)).toBe("open");
});

test("before the two hours a new connection is opened first, and then the old one closed", async () => {
  const { told, states } = start(service, { regions: ["PL"] });
  await pass(100);
  const [old] = service.sockets;
  let both = 0;
  for (let second = 0; second < 120 * 60; second++) {
    service.publish("PL");
    await pass(1_000);
    both = Math.max(both, service.sockets.size);
  }
  expect(service.handshakes.length).toBe(2);
  expect(old!.readyState).toBe(3);
  expect(told).toEqual(alertsOf("PL", 1, 120 * 60));
  expect(states).toEqual(["open"]);
});

test("the old connection stays until the new one has subscribed", async () => {
  start(service, { regions: ["PL"], rotateAfterMs: 60_000 });
  await pass(59_000);
  draw(0.5);
  refuseOnce();
  await until(() => service.sockets.size > 1);
  await pass(1_000);
  expect(service.sockets.size).toBe(2);
  await pass(10_000);
  expect(service.sockets.size).toBe(1);
});

test("a rotation that fails is tried again while the old connection works", async () => {
  const { told, states } = start(service, { regions: ["PL"], rotateAfterMs: 60_000 });
  await pass(59_000);
  service.refuses = true;
  await pass(6_000);
  service.publish("PL");
  service.refuses = false;
  await pass(30_000);
  expect(told).toEqual(["PL 1"]);
  expect(states).toEqual(["open"]);
  expect(service.sockets.size).toBe(1);
});

test("a cut of the old connection during a rotation costs nothing", async () => {
  const { states } = start(service, { regions: ["PL"], rotateAfterMs: 60_000 });
  await pass(59_000);
  const [old] = service.sockets;
  draw(0.5);
  refuseOnce();
  await until(() => service.sockets.size > 1);
  await pass(1_000);
  old!.ends();
  await pass(20_000);
  expect(service.handshakes.length).toBe(2);
  expect(states).toEqual(["open", "open"].slice(0, states.length));
});

test("a cut during a rotation that waits for its token leaves one connection", async () => {
  let calls = 0;
  // The rotation's is the last that takes a second. To the Event API a token also goes with each channel and request.
  const slow = on({ gateway: 2, events: 7 });
  const token = (): Promise<string> =>
    new Promise((resolve) => setTimeout(() => resolve("t"), ++calls <= slow ? 1_000 : 0));
  const options = { rotateAfterMs: 60_000, reconnectWithinMs: 5_000, token, httpUrl: undefined };
  const { states } = start(service, { regions: ["PL"], ...options });
  await until(() => states.at(-1) === "open");
  await pass(60_500);
  expect(calls).toBe(slow);
  const [old] = service.sockets;
  // The next attempt falls into the moment between the handshake and the acknowledgement.
  draw(0.108);
  old!.ends();
  await pass(30_000);
  expect(service.sockets.size).toBe(1);
});

test("a client that is closed at once never connects", async () => {
  start(service, { regions: ["PL"] }).client.close();
  await pass(10_000);
  expect(service.handshakes.length).toBe(0);
});

test("a region that is refused takes none of the others with it", async () => {
  service.forbidden.add("XX");
  const { told, errors } = start(service, { regions: ["PL", "XX", "DE"], rotateAfterMs: MINUTE });
  await pass(1_000);
  publishUntil(service, "PL", 1);
  publishUntil(service, "DE", 1);
  await pass(100);
  expect([...told].sort()).toEqual(["DE 1", "PL 1"]);
  expect(errors).toMatchObject([{ code: "forbidden", terminal: false }]);
  // Nor when it is refused from a rotation on.
  service.forbidden.add("DE");
  await pass(2 * MINUTE);
  publishUntil(service, "PL", 2);
  await pass(100);
  expect(told.at(-1)).toBe("PL 2");
});

test("a region that was refused may be asked for again", async () => {
  service.forbidden.add("DE");
  const { client, told, errors } = start(service, { regions: ["PL", "DE"] });
  await pass(1_000);
  service.forbidden.clear();
  client.unwatch("DE");
  client.watch("DE");
  await pass(1_000);
  service.publish("DE");
  await pass(100);
  expect(told).toEqual(["DE 1"]);
  expect(errors.length).toBe(1);
});

test("a region that is left while it is asked for begins anew when it is watched again", async () => {
  const { client, told } = start(service, { regions: ["DE"] });
  await pass(100);
  client.watch("PL");
  await pass(5);
  client.unwatch("PL");
  await pass(MINUTE);
  publishUntil(service, "PL", 3);
  client.watch("PL");
  await pass(1_000);
  publishUntil(service, "PL", 4);
  await pass(100);
  expect(told).toEqual(["PL 4"]);
});

test("a connection is replaced when the service advises it", async () => {
  service.advice.rotate_after_ms = MINUTE;
  start(service, { regions: ["PL"] });
  await pass(MINUTE + 1_000);
  expect(service.handshakes.length).toBe(2);
});

test("frames that somebody else sent are passed over", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  for (const data of ["", "hello", "null", "5", '"x"', "[]"])
    for (const socket of service.sockets) socket.onmessage?.({ data } as never);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1"]);
});

test("an answer that may be repeated is, and one that may not is an event", async () => {
  if (leg === "events") appSync.nextError = "InternalFailure";
  else service.nextAnswer = { message: "Internal server error", connectionId: "c", requestId: "r" };
  const { told, errors, client } = start(service, { regions: ["PL"] });
  await pass(6_000);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1"]);
  const invalid = { code: "invalid_region", message: "no", field: "regions[0]" };
  if (leg === "events") appSync.nextError = "BadRequestException";
  else service.nextAnswer = { type: "error", ...invalid, retryable: false };
  client.watch("XX");
  await pass(60_000);
  const error = on<object>({ gateway: invalid, events: { code: "forbidden", message: "forbidden" } });
  expect(errors).toMatchObject([{ ...error, terminal: false }]);
  expect(errors[0]).toBeInstanceOf(ViralAlertsError);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1", "PL 2"]);
});

test("ALL contains every region, also those that come into being", async () => {
  publishUntil(service, "PL", 2);
  const { told, subscribed } = start(service, { regions: ["ALL"] });
  await pass(100);
  expect(subscribed).toMatchObject([{ region: "ALL", positions: { PL: { seq: 2 } } }]);
  publishUntil(service, "PL", 3);
  publishUntil(service, "NEW", 1);
  await pass(100);
  service.cut();
  publishUntil(service, "NEW", 2);
  publishUntil(service, "NEWER", 2);
  await pass(BACK);
  expect(told).toEqual(["PL 3", "NEW 1", "NEW 2", "NEWER 1", "NEWER 2"]);
  expect(said(/^subscribe/).map((one) => one.split(" ")[1])).toEqual(["ALL", "ALL"]);
});

test("ALL goes on with more regions than positions fit in a message", async () => {
  const regions = Array.from({ length: 310 }, (_, index) => `R-${index}`);
  for (const region of regions) service.publish(region);
  const { told, errors } = start(service, { regions: ["ALL"] });
  await pass(100);
  for (const region of regions) service.publish(region);
  await pass(100);
  service.cut();
  publishUntil(service, "R-100", 3);
  await pass(BACK);
  publishUntil(service, "R-100", 4);
  await pass(100);
  expect(told.filter((alert) => alert.startsWith("R-100"))).toEqual(alertsOf("R-100", 2, 4));
  expect(errors).toEqual([]);
});

test("a region goes on after the service refuses its position", async () => {
  const { told, errors } = start(service, { regions: ["PL"] });
  await pass(100);
  const refusal = { code: "invalid_field", message: "no", retryable: false };
  if (leg === "events") [service.status, service.body] = [400, { error: { ...refusal, field: "after" } }];
  else service.nextAnswer = { type: "error", ...refusal, field: "since.PL" };
  service.cut();
  publishUntil(service, "PL", 1);
  await until(() => errors.length > 0, 10);
  service.status = 200;
  await pass(60_000);
  expect(errors).toMatchObject([{ code: "invalid_field", field: on({ gateway: "since.PL", events: "since" }) }]);
  expect(told).toEqual(["PL 1"]);
});

test("a region that is watched before ALL loses nothing to it, nor when ALL is left", async () => {
  const { told, client } = start(service, { regions: ["PL"] });
  await pass(100);
  service.deliver = () => [];
  publishUntil(service, "PL", 1);
  client.watch("ALL");
  await pass(2_000);
  service.deliver = () => [10];
  publishUntil(service, "DE", 1);
  await pass(100);
  // Two channels of AppSync would bring an alert twice, and it is billed twice.
  expect(said(/^unsubscribe/)).toEqual(on({ gateway: [], events: ["unsubscribe PL"] }));
  client.unwatch("ALL");
  publishUntil(service, "PL", 2);
  publishUntil(service, "DE", 2);
  await pass(2_000);
  publishUntil(service, "PL", 3);
  await pass(100);
  expect(told).toEqual(["PL 1", "DE 1", "PL 2", "PL 3"]);
});

test("alerts without a number are passed on as they are", async () => {
  const { client } = start(service, { regions: ["PL"] });
  const alerts: ViralAlert[] = [];
  client.addEventListener("alert", ({ detail }) => alerts.push(detail));
  await pass(100);
  const bare = {
    type: "viral_alert",
    region: "PL",
    video: { id: "v", title: "t", thumbnail: null, score: 1 },
    timestamp: "",
  };
  for (const socket of service.sockets) for (let times = 0; times < 2; times++) socket.pushes(bare, 10);
  await pass(100);
  expect(alerts).toEqual([bare, bare]);
});

test.each([0, -1, 0.5, "soon", {}, [[]], 1e300])("an advice of %j milliseconds makes no storm", async (ms) => {
  service.advice = { reconnect_within_ms: ms, rotate_after_ms: ms } as never;
  const { states } = start(service, { regions: ["PL"] });
  await pass(60_000);
  expect(service.handshakes.length).toBeLessThan(62);
  expect(states.at(-1)).toBe("open");
  service.cut();
  // The longest window has ten minutes.
  await pass(10 * MINUTE + 100);
  expect(states.at(-1)).toBe("open");
});

test("a connection is replaced within a day, whatever is advised", async () => {
  service.advice = { ...service.advice, rotate_after_ms: 1e300 };
  start(service, { regions: ["PL"] });
  await pass(24 * 60 * MINUTE + 100);
  expect(service.handshakes.length).toBe(2);
});

test.each([0, -1, 0.5, "soon", {}, [[]], 1e300])("a pause of %j milliseconds has bounds", async (ms) => {
  const refusal = { type: "error", code: "rate_limited", message: "no", retryable: true, retry_after_ms: ms };
  const answer = service.answer.bind(service);
  service.answer = () => refusal;
  const { states } = start(service, { regions: ["PL"] });
  await pass(60_000);
  expect(service.messages.length).toBeLessThan(8 + 60 * 8);
  service.answer = answer;
  await pass(10 * MINUTE);
  expect(states.at(-1)).toBe("open");
});

test("regions of which some are refused are asked for within the rate of messages, and in few", async () => {
  const regions = Array.from({ length: 60 }, (_, index) => `R-${index}`);
  for (const refused of ["R-3", "R-29", "R-30", "R-59"]) service.forbidden.add(refused);
  const sent: number[] = [];
  const push = service.said.push.bind(service.said);
  service.said.push = (one) => {
    // AppSync has no rate for subscriptions.
    if (!one.startsWith("subscribe ")) sent.push(Date.now());
    return push(one);
  };
  const { subscribed, errors } = start(service, { regions });
  await pass(30_000);
  expect(subscribed.length).toBe(56);
  expect(errors.map(({ code }) => code)).toEqual(Array(4).fill("forbidden"));
  // One by one would take 60.
  expect(sent.length).toBeLessThan(45);
  // At most ten at once and ten a second, as the service counts them.
  let room = 10;
  for (const [index, at] of sent.entries()) {
    room = Math.min(10, room + ((at - (sent[index - 1] ?? at)) / 1_000) * 10) - 1;
    expect(room).toBeGreaterThanOrEqual(0);
  }
});

test("many regions beside ALL leave it room on the connection", async () => {
  const regions = Array.from({ length: 100 }, (_, index) => `R-${index}`);
  const { client, told, errors } = start(service, { regions });
  await pass(1_000);
  client.watch("ALL");
  await pass(5_000);
  expect(errors).toEqual([]);
  service.publish("DE");
  for (const region of regions) service.publish(region);
  await pass(100);
  expect(told.length).toBe(101);
});
