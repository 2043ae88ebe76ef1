// Recovery of missing alerts, and gaps where they cannot be recovered.

import { expect, test, vi } from "vitest";
import { BACK, ONE_CHECK, alertsOf, pass, publishUntil, start, until } from "./application.js";
import { appSync, changeAnswers, service, startService, whenAnswered } from "./current.js";
import { leg, on } from "./legs.js";
import { randomOf } from "./seeded.js";
import { FakeSocket, LATENCY } from "./service.js";

const HTTP = { httpUrl: "https://service.example/" };

/** Misses alerts of `regions` up to number `to` while the connection is cut. */
async function miss(regions: string[], to: number): Promise<void> {
  await pass(100);
  service.cut();
  for (const region of regions) publishUntil(service, region, to);
  await pass(BACK + 4_000);
}

test("what does not fit in the answer is fetched in pages", async () => {
  const { told } = start(service, { regions: ["PL"], ...HTTP });
  await miss(["PL"], 450);
  expect(told).toEqual(alertsOf("PL", 1, 450));
  const pages = [0, 100, 200, 300, 400].map((seq) => `GET PL after PL ${seq}`);
  // On the leg of AppSync the look soon after a subscription follows.
  expect(service.said.filter((one) => /^GET.*after/.test(one)).slice(0, pages.length)).toEqual(pages);
  const first = service.requests.find(({ searchParams }) => searchParams.has("after"))!;
  // The WebSocket API has told where the new log begins.
  const position = on({ gateway: "PL.mwm0nk74.0", events: "PL.0.0" });
  expect(first.href).toBe(`https://service.example/alerts?region=PL&after=${position}`);
});

test("alerts that are pushed meanwhile come after the pages", async () => {
  const { told } = start(service, { regions: ["PL"], ...HTTP });
  await pass(100);
  service.cut();
  publishUntil(service, "PL", 450);
  await until(() => service.said.at(-1)!.includes("after"));
  for (let to = 451; to < 1_000; to += 1) {
    await pass(10);
    publishUntil(service, "PL", to);
  }
  await pass(2_000);
  expect(told).toEqual(alertsOf("PL", 1, 999));
});

test.each(["ALL", "named"] as const)("more regions than an answer recovers are fetched by HTTP, %s", async (how) => {
  const regions = Array.from({ length: 90 }, (_, index) => `R-${index}`);
  const { told } = start(service, { regions: how === "ALL" ? ["ALL"] : regions, ...HTTP });
  service.recoveredRegionsMax = how === "ALL" ? 25 : 5;
  await pass(1_000);
  const { length } = service.requests;
  service.cut();
  for (const region of regions) publishUntil(service, region, 2);
  // The look soon after a subscription does not count.
  await until(() => told.length >= 180, 10);
  for (const region of regions)
    expect(told.filter((alert) => alert.startsWith(`${region} `))).toEqual(alertsOf(region, 1, 2));
  const requests = service.requests.slice(length);
  const fetched = requests.flatMap(({ searchParams }) => searchParams.get("region")!.split(","));
  // AppSync carries nothing that was missed.
  const gateway = { ALL: [90 - 25, 3], named: [90 - 4 * 5, 4] };
  const counts = on({ gateway, events: { ALL: [1, 2], named: [90, 4] } });
  expect([new Set(fetched).size, requests.length]).toEqual(counts[how]);
});

test("without HTTP, what an answer under ALL leaves out is asked for alone, for any number of regions", async () => {
  const regions = Array.from({ length: 130 }, (_, index) => `R-${index}`);
  const { told, errors } = start(service, { regions: ["ALL"] });
  await pass(1_000);
  service.cut();
  for (const region of regions) publishUntil(service, region, 1);
  service.recoveredRegionsMax = 25;
  await pass(60_000);
  expect(errors).toEqual([]);
  expect(told.sort()).toEqual(regions.map((region) => `${region} 1`).sort());
  const before = service.messages.length;
  for (const region of regions) service.publish(region);
  await pass(60_000);
  expect(told.length).toBe(130 + 130);
  expect(service.messages.length).toBe(before);
});

test("without HTTP, what does not fit with other regions is asked for alone", async () => {
  const { told } = start(service, { regions: ["PL", "DE", "FR"] });
  await miss(["PL", "DE", "FR"], 100);
  for (const region of ["PL", "DE", "FR"]) {
    expect(told.filter((alert) => alert.startsWith(region))).toEqual(alertsOf(region, 1, 100));
  }
});

test("without HTTP, what does not fit alone is a gap, and the client goes on", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  service.publish("PL");
  await miss(["PL"], 450);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1", "PL gap 2-450", "PL 451"]);
});

test("what the log has forgotten is a gap", async () => {
  const { told } = start(service, { regions: ["PL"], ...HTTP });
  await pass(100);
  publishUntil(service, "PL", 2);
  await pass(100);
  service.cut();
  publishUntil(service, "PL", 9);
  service.forget("PL", 3);
  await pass(BACK);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1", "PL 2", "PL gap 3-9", "PL 10"]);
});

test("another log is followed from its beginning", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  publishUntil(service, "PL", 3);
  await pass(100);
  service.reset();
  publishUntil(service, "PL", 1);
  await pass(100);
  service.deliver = ({ seq }) => (seq === 2 ? [] : [10]);
  publishUntil(service, "PL", 3);
  await pass(1_000);
  expect(told).toEqual([...alertsOf("PL", 1, 3), "PL gap 4-null", ...alertsOf("PL", 1, 3)]);
});

test("another log that began during a cut is followed from its beginning", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  publishUntil(service, "PL", 3);
  await pass(100);
  service.reset();
  await miss(["PL"], 2);
  expect(told).toEqual([...alertsOf("PL", 1, 3), "PL gap 4-null", "PL 1", "PL 2"]);
});

test("HTTP that fails is tried again", async () => {
  const { told } = start(service, { regions: ["PL"], ...HTTP });
  await pass(100);
  const { length } = service.requests;
  service.status = 503;
  service.cut();
  publishUntil(service, "PL", 450);
  await pass(BACK);
  expect(service.requests.length).toBeGreaterThan(length);
  expect(told).toEqual([]);
  service.status = 200;
  // The longest backoff is 30 s.
  await pass(31_000);
  expect(told).toEqual(alertsOf("PL", 1, 450));
});

test("one request that fails holds up none of many regions for long", async () => {
  const regions = Array.from({ length: 25 }, (_, index) => `R-${index}`);
  const { told } = start(service, { regions, ...HTTP });
  await pass(100);
  service.status = 503;
  const { length } = service.requests;
  service.cut();
  for (const region of regions) publishUntil(service, region, 20);
  await until(() => service.requests.length > length, 5);
  await pass(20);
  service.status = 200;
  await pass(6_000);
  for (const region of regions)
    expect(told.filter((alert) => alert.startsWith(`${region} `))).toEqual(alertsOf(region, 1, 20));
});

test.each([0, 429, 503])("HTTP that fails with %i for an hour loses nothing, and is asked seldom", async (status) => {
  const { told } = start(service, { regions: ["PL"], ...HTTP });
  await pass(100);
  service.status = status;
  await miss(["PL"], 450);
  await pass(60 * 60_000);
  expect(told).toEqual([]);
  // Pauses are random in a window of 30 s. While a log is busy there is no subscription on the leg of AppSync, so
  // beside it the fallback asks as often. One without an answer is left to the WebSocket API after some attempts.
  expect(service.requests.length).toBeGreaterThan(150);
  expect(service.requests.length).toBeLessThan(on({ gateway: 350, events: 700 }));
  service.status = 200;
  await pass(31_000);
  expect(told).toEqual(alertsOf("PL", 1, 450));
});

test.each([400, 403, 404])("what HTTP refuses to read with %i is a gap after five requests", async (status) => {
  const { told } = start(service, { regions: ["PL"], ...HTTP });
  service.status = status;
  await miss(["PL"], 450);
  await pass(120_000);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL gap 1-450", "PL 451"]);
  expect(service.requests.length).toBe(5);
});

test("a service that withholds an alert holds up those after it for a bounded time", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  service.deliver = ({ seq }) => (seq === 2 ? [] : [10]);
  changeAnswers((answer) => ({ ...answer, alerts: [] }));
  publishUntil(service, "PL", 4);
  await pass(60_000);
  expect(told).toEqual(["PL 1", "PL gap 2-2", "PL 3", "PL 4"]);
});

test("whatever is lost, repeated, delayed and cut: each alert once and in order", { timeout: 60_000 }, async () => {
  const seeds = Array.from({ length: 60 }, (_, index) => index);
  for (const seed of seeds) {
    const random = randomOf(seed);
    vi.mocked(Math.random).mockImplementation(randomOf(seed + 1_000));
    startService();
    const httpOrNot = random() < 0.5 ? HTTP : {};
    const { client, told } = start(service, { regions: random() < 0.3 ? ["ALL"] : ["PL", "DE"], ...httpOrNot });
    service.deliver = () => [10, 20, 900].filter(() => random() < 0.5).map((delay) => delay * (0.5 + random()));
    await pass(100);
    service.knowsKeepalive = random() < 0.8;
    for (let step = 0; step < 150; step++) {
      const chance = random();
      const [socket] = service.sockets;
      if (chance < 0.6) service.publish(random() < 0.5 ? "PL" : "DE");
      else if (chance > 0.98) service.loseSubscriptions();
      else if (chance > 0.96 && socket instanceof FakeSocket) socket.isMarkedClosed = true;
      else if (chance < 0.65) service.cut();
      else if (chance < 0.68) {
        if (leg === "events") appSync.nextError = "InternalFailure";
        else service.nextAnswer = { message: "Internal server error", connectionId: "c", requestId: "r" };
      }
      await pass(random() * 500);
    }
    service.deliver = () => [10];
    service.refuses = false;
    // If the very last alert was lost, the keepalive or a look finds it.
    await pass(ONE_CHECK + BACK);
    for (const region of ["PL", "DE"]) {
      const seen = told.filter((alert) => alert.startsWith(region));
      expect(seen, `seed ${seed}`).toEqual(alertsOf(region, 1, service.head(region).seq));
    }
    client.close();
  }
});

test("a missing alert is asked for five times, after half a second and then with doubling pauses", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  changeAnswers((answer) => ({ ...answer, alerts: [] }));
  const asked: number[] = [];
  const push = service.said.push.bind(service.said);
  service.said.push = (one) => {
    if (one.endsWith("after PL 0")) asked.push(Date.now());
    return push(one);
  };
  service.deliver = ({ seq }) => (seq === 1 ? [] : [LATENCY]);
  publishUntil(service, "PL", 2);
  const missed = Date.now() + LATENCY;
  await pass(60_000);
  // Each pause begins with an answer.
  const took = on({ gateway: 2 * LATENCY, events: LATENCY });
  const pauses = asked.map((at, index) => at - (asked[index - 1]! + took || missed));
  expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000]);
  expect(told).toEqual(["PL gap 1-1", "PL 2"]);
});

test("an alert of an old log that comes before the first answer does not take the place of a new one", async () => {
  const { client, told } = start(service, { regions: ["PL"] });
  const epochs: unknown[] = [];
  client.addEventListener("alert", ({ detail }) => epochs.push(detail.epoch));
  const old = service.publish("PL");
  service.reset();
  let answers = 0;
  // The answer is on its way, and says that there is no log.
  whenAnswered(() => {
    if (answers++) return;
    for (const socket of service.sockets) socket.pushes(old, 0);
    service.deliver = () => [0];
    service.publish("PL");
  });
  await pass(200);
  expect(told).toEqual(["PL 1"]);
  expect(epochs).toEqual([service.epoch]);
});

test("a region without alerts goes on where ALL stood when ALL is left, also if its first push is lost", async () => {
  const { client, told } = start(service, { regions: ["ALL", "PL"] });
  await pass(100);
  service.deliver = () => [];
  client.unwatch("ALL");
  publishUntil(service, "PL", 1);
  await pass(100);
  expect(told).toEqual(["PL 1"]);
});

test("watching ALL while a new log is fetched asks for nothing else", async () => {
  // The next attempt at the log comes two seconds after the one that fails.
  vi.mocked(Math.random).mockReturnValue(0.5);
  const { client, told } = start(service, { regions: ["PL"], ...HTTP });
  service.status = 503;
  await pass(100);
  service.cut();
  publishUntil(service, "PL", 450);
  // Once the last attempt has failed, the region itself is asked for again.
  for (let passed = 0; service.requests.length === 0 && passed < 10_000; passed += 10) await pass(10);
  const before = service.messages.length;
  client.watch("ALL");
  await pass(100);
  expect(service.messages.slice(before).map(({ regions }) => regions)).toEqual([["ALL"]]);
  service.status = 200;
  await pass(60_000);
  expect(told).toEqual(alertsOf("PL", 1, 450));
});

test.each([
  { positions: { PL: null } },
  { positions: { PL: 7 } },
  { positions: { PL: { epoch: "x", seq: 1 } } },
  { positions: { PL: { epoch: 1, seq: -1 } } },
  { positions: { PL: { epoch: 0, seq: 0 } }, alerts: [null] },
  { positions: { PL: { epoch: 0, seq: 0 } }, removed: 7 },
  { positions: { PL: { epoch: 0, seq: 0 } }, not_recovered: 7 },
])("an answer that is not as promised ends the connection, and the next one goes on: %j", async (answer) => {
  let broken = 1;
  changeAnswers((usual) => (broken-- > 0 ? { ...usual, ...answer } : usual));
  const { told, errors, states } = start(service, { regions: ["PL"] });
  await pass(31_000 + BACK);
  expect(broken).toBeLessThan(0);
  expect(states.at(-1)).toBe("open");
  publishUntil(service, "PL", 2);
  await pass(100);
  broken = 1;
  service.deliver = ({ seq }) => (seq === 3 ? [] : [LATENCY]);
  publishUntil(service, "PL", 4);
  await pass(31_000 + BACK);
  expect(broken).toBeLessThan(0);
  expect(told).toEqual(alertsOf("PL", 1, 4));
  expect(errors).toEqual([]);
});

test("a page over HTTP with a position that is none is read again", async () => {
  const { told } = start(service, { regions: ["PL"], ...HTTP });
  await pass(100);
  const history = service.history.bind(service);
  let broken = 3;
  service.history = (url) => {
    const page = history(url)!;
    return broken-- > 0 ? Object.assign(page, { positions: { PL: null } }) : page;
  };
  service.cut();
  publishUntil(service, "PL", 450);
  await pass(60_000 + BACK);
  expect(told).toEqual(alertsOf("PL", 1, 450));
});

test("a keepalive whose answer is not as promised ends the connection", async () => {
  const { told } = start(service, { regions: ["PL"], keepaliveMs: 5_000 });
  await pass(100);
  service.deliver = () => [];
  publishUntil(service, "PL", 1);
  await pass(4_800);
  service.nextAnswer = { type: "kept", behind: 7 };
  await pass(31_000);
  expect(told).toEqual(["PL 1"]);
});
