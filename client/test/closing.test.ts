// What is left after `close`: nothing that keeps a program in Node.js running.

import { expect, test, vi } from "vitest";
import { BACK, pass, publishUntil, start } from "./application.js";
import { refuseOnce, service } from "./current.js";
import { leg, on } from "./legs.js";
import { LATENCY } from "./service.js";

const HTTP = { httpUrl: "https://service.example/" };

/** The answer to the first subscription says that it may be repeated, and on the leg of AppSync the log says so. */
function holdBack(): void {
  if (leg === "events") setTimeout(() => (service.status = 503), 65);
  else service.nextAnswer = { type: "error", retry_after_ms: 9_000 };
}

test.each<[string, () => void, number]>([
  ["it connects", () => (service.silent = true), 1_000],
  ["it waits for an answer", () => {}, LATENCY + 1],
  ["it pauses before it asks again", refuseOnce, on({ gateway: 40, events: 65 })],
  ["it waits as it was told, or for the log", holdBack, 1_000],
  ["it is connected", () => {}, 1_000],
  ["it waits before it connects again", () => setTimeout(() => service.cut(), 500), 501],
  ["it is about to poll", () => (service.refuses = true), 4_500],
  ["it polls", () => (service.refuses = true), 60_000],
  ["polls fail", () => ((service.refuses = true), (service.status = 503)), 60_000],
])("after close no timer is left if %s", async (_, before, ms) => {
  before();
  const { client } = start(service, { regions: ["PL", "DE"], ...HTTP });
  await pass(ms);
  client.close();
  // What is under way may still end.
  await pass(2 * LATENCY);
  expect(vi.getTimerCount()).toBe(0);
});

test.each([
  ["", {}],
  [", and HTTP fails", HTTP],
])("after close no timer is left if alerts are missing%s", async (_, options) => {
  const { client } = start(service, { regions: ["PL"], ...options });
  await pass(100);
  service.status = 503;
  service.cut();
  publishUntil(service, "PL", 450);
  await pass(14_000 + BACK);
  service.deliver = ({ seq }) => (seq === 451 ? [] : [LATENCY]);
  publishUntil(service, "PL", 452);
  await pass(100);
  client.close();
  await pass(2 * LATENCY);
  expect(vi.getTimerCount()).toBe(0);
});

test("after close no timer is left if many regions are being asked for", async () => {
  const regions = Array.from({ length: 40 }, (_, index) => `R-${index}`);
  for (const region of regions) service.forbidden.add(region);
  const { client } = start(service, { regions });
  await pass(1_500);
  client.close();
  await pass(2 * LATENCY);
  expect(vi.getTimerCount()).toBe(0);
  const { length } = service.said;
  await pass(60_000);
  expect(service.said.length).toBe(length);
});
