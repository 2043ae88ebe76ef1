import { expect, test, vi } from "vitest";
import { iterate } from "../src/viral-alerts-iterate.js";
import { pass, publishUntil, start } from "./application.js";
import { service } from "./current.js";

const QUEUE_MAX = 20;
vi.mock("../src/limits.js", async (original) => ({ ...(await original<object>()), QUEUE_MAX: 20 }));

test("alerts can be iterated over until the client is closed", async () => {
  const { client } = start(service, { regions: ["PL"] });
  const numbers: (number | undefined)[] = [];
  const iteration = (async () => {
    for await (const { seq } of iterate(client)) numbers.push(seq);
  })();
  await pass(100);
  publishUntil(service, "PL", 2);
  await pass(100);
  expect(numbers).toEqual([1, 2]);
  client.close();
  await iteration;
});

test("two iterations each have every alert, and one may end before the other", async () => {
  const { client } = start(service, { regions: ["PL"] });
  const first: (number | undefined)[] = [];
  const second: (number | undefined)[] = [];
  const ended = (async () => {
    for await (const { seq } of iterate(client)) if (first.push(seq) === 2) break;
  })();
  void (async () => {
    for await (const { seq } of iterate(client)) second.push(seq);
  })();
  await pass(100);
  publishUntil(service, "PL", 3);
  await pass(100);
  await ended;
  expect([first, second]).toEqual([
    [1, 2],
    [1, 2, 3],
  ]);
});

test("a consumer that is too far behind is told after what was kept for it", async () => {
  const { client } = start(service, { regions: ["PL"] });
  const iterator = iterate(client);
  const first = iterator.next();
  await pass(100);
  publishUntil(service, "PL", 1);
  await pass(100);
  expect((await first).value).toMatchObject({ seq: 1 });
  publishUntil(service, "PL", QUEUE_MAX + 2);
  await pass(100);
  for (let seq = 2; seq <= QUEUE_MAX + 1; seq++) expect((await iterator.next()).value).toMatchObject({ seq });
  await expect(iterator.next()).rejects.toMatchObject({ code: "slow_consumer", terminal: false });
});

test("a consumer that was too far behind never has an alert after one that was left out", async () => {
  const { client } = start(service, { regions: ["PL"] });
  const iterator = iterate(client);
  const first = iterator.next();
  await pass(100);
  publishUntil(service, "PL", 1);
  await pass(100);
  await first;
  publishUntil(service, "PL", QUEUE_MAX + 2);
  await pass(100);
  await iterator.next();
  publishUntil(service, "PL", QUEUE_MAX + 3);
  await pass(100);
  for (let seq = 3; seq <= QUEUE_MAX + 1; seq++) expect((await iterator.next()).value).toMatchObject({ seq });
  await expect(iterator.next()).rejects.toMatchObject({ code: "slow_consumer" });
});

test("an iteration that waits can be ended", async () => {
  const { client } = start(service, { regions: ["PL"] });
  await pass(100);
  const alerts = iterate(client);
  const next = alerts.next();
  expect(await alerts.return()).toEqual({ value: undefined, done: true });
  expect(await next).toEqual({ value: undefined, done: true });
  expect(await alerts.next()).toEqual({ value: undefined, done: true });
});

test("an iteration has every alert from when it was begun", async () => {
  const { client } = start(service, { regions: ["PL"] });
  await pass(100);
  const alerts = iterate(client);
  publishUntil(service, "PL", 1);
  await pass(100);
  expect((await alerts.next()).value).toMatchObject({ seq: 1 });
});

test("an iteration that ends listens no more", async () => {
  const { client } = start(service, { regions: ["PL"] });
  const signals: AbortSignal[] = [];
  const add = client.addEventListener.bind(client);
  client.addEventListener = ((type: "alert", listener: () => void, options: AddEventListenerOptions) => {
    signals.push(options.signal!);
    add(type, listener, options);
  }) as typeof client.addEventListener;
  await pass(100);
  publishUntil(service, "PL", 1);
  const iteration = (async () => {
    for await (const _ of iterate(client)) break;
  })();
  publishUntil(service, "PL", 2);
  await pass(100);
  await iteration;
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true]);
});

test("an alert that is taken back while it waits for the loop is not yielded, and others are", async () => {
  const { client } = start(service, { regions: ["PL"] });
  await pass(100);
  const alerts = iterate(client);
  publishUntil(service, "PL", 3);
  await pass(100);
  expect((await alerts.next()).value).toMatchObject({ seq: 1 });
  service.remove("PL", 1);
  service.remove("PL", 2);
  await pass(100);
  expect((await alerts.next()).value).toMatchObject({ seq: 3 });
});

test("nor is one that reached everyone, and one of the same number of another region is", async () => {
  const { client } = start(service, { regions: ["PL"] });
  await pass(100);
  const alerts = iterate(client);
  service.publishToEveryone("FR");
  service.publishToEveryone("DE");
  await pass(100);
  service.remove("FR", 1);
  await pass(100);
  expect((await alerts.next()).value).toMatchObject({ region: "DE", seq: 1 });
});
