// ALL where it stands for more regions than a cursor of the log can name.

import { expect, test, vi } from "vitest";
import type { State, ViralAlerts } from "../src/viral-alerts.js";
import { BACK, ONE_CHECK, SETTLED, alertsOf, pass, publishUntil, start, until } from "./application.js";
import { service, startService } from "./current.js";
import { randomOf } from "./seeded.js";

const HTTP = { httpUrl: "https://service.example/" };
/** With names of the greatest length, of which a cursor has place for 146. */
const REGIONS = Array.from({ length: 300 }, (_, index) => `LONG-NAME-${String(index).padStart(6, "0")}`);
const LAST = REGIONS.at(-1)!;

const publishTo = (regions: string[], to: number): void => {
  for (const region of regions) publishUntil(service, region, to);
};

/** Lets time pass until a WebSocket is open, within twice the longest backoff. */
async function opens(client: ViralAlerts): Promise<void> {
  for (let waited = 0; !isOpen(client.state); waited += 10) {
    expect(waited).toBeLessThan(60_000);
    await pass(10);
  }
}

const isOpen = (state: State): boolean => state.state === "open" && state.transport === "websocket";

test("a client of ALL is told nothing from before it began, and everything since, of each region", async () => {
  publishTo(REGIONS, 2);
  const { client, told, errors } = start(service, { regions: ["ALL"], ...HTTP });
  await until(() => client.counts.subscribed === 1);
  publishTo(REGIONS, 3);
  await pass(SETTLED);
  service.cut();
  publishTo(REGIONS, 4);
  await pass(2 * BACK);
  expect(told.sort()).toEqual(REGIONS.flatMap((region) => alertsOf(region, 3, 4)));
  expect(errors).toEqual([]);
  // All that was missed after the cut is in pages of 25 regions.
  expect(service.requests.length).toBeLessThan(40);
});

test("an alert of the last region that does not arrive is found as any other", async () => {
  publishTo(REGIONS, 2);
  const { told } = start(service, { regions: ["ALL"], ...HTTP });
  await pass(SETTLED);
  service.deliver = () => [];
  publishUntil(service, LAST, 3);
  await pass(ONE_CHECK);
  expect(told).toEqual([`${LAST} 3`]);
});

test("a client of ALL that can only poll at first is told nothing from before it began", async () => {
  publishTo(REGIONS, 2);
  service.refuses = true;
  vi.stubGlobal("location", new URL("https://page.example/"));
  const { client, told, states, errors } = start(service, { regions: ["ALL"], ...HTTP });
  await pass(20_000);
  publishTo(REGIONS, 3);
  await pass(20_000);
  expect(states).not.toContain("polling");
  expect(errors).toEqual([]);
  expect(service.requests.length).toBeLessThan(30);
  service.refuses = false;
  await opens(client);
  publishTo(REGIONS, 4);
  await pass(BACK);
  expect(told.sort()).toEqual(REGIONS.map((region) => `${region} 4`));
});

test.each([
  ["before ALL", ["PL"], ["ALL"]],
  ["with ALL from the start", ["PL", "ALL"], []],
])("while ALL cannot begin by polling, a region goes on that is watched %s", async (_, regions, watched) => {
  publishTo([...REGIONS, "PL"], 2);
  service.refuses = true;
  const { client, told, subscribed, errors } = start(service, { regions, ...HTTP });
  await until(() => subscribed.length > 0);
  for (const region of watched) client.watch(region);
  await pass(1_000);
  const before = service.requests.length;
  for (let seq = 3; seq < 13; seq++) {
    publishTo([...REGIONS, "PL"], seq);
    // A poll comes within the longest backoff.
    await pass(31_000);
    expect(told).toEqual(alertsOf("PL", 3, seq));
  }
  expect(subscribed.map(({ region }) => region)).toEqual(["PL"]);
  // Two for each poll, and on AppSync one for each attempt to connect.
  expect(service.requests.length - before).toBeLessThan(120);
  service.refuses = false;
  await opens(client);
  expect(client.counts.subscribed).toBe(2);
  expect(told).toEqual(alertsOf("PL", 3, 12));
  publishTo([...REGIONS, "PL"], 13);
  await pass(BACK);
  expect(told.slice(10).sort()).toEqual([...REGIONS, "PL"].map((region) => `${region} 13`).sort());
  expect(errors).toEqual([]);
});

test("regions that come into being are followed from their beginning, also the one that is too many", async () => {
  publishTo(REGIONS.slice(0, 100), 2);
  const { told } = start(service, { regions: ["ALL"], ...HTTP });
  await pass(SETTLED);
  publishTo(REGIONS.slice(100), 2);
  await pass(ONE_CHECK);
  publishTo(REGIONS, 3);
  await pass(ONE_CHECK);
  expect(told.sort()).toEqual(REGIONS.flatMap((region, index) => alertsOf(region, index < 100 ? 3 : 1, 3)));
});

test("whenever ALL is watched, and whatever fails: nothing is told from before, and nothing lost", async () => {
  for (let seed = 0; seed < 60; seed++) {
    const random = randomOf(seed);
    const below = (bound: number): number => Math.floor(random() * bound);
    vi.mocked(Math.random).mockImplementation(randomOf(seed + 1_000));
    startService();
    const regions = random() < 0.5 ? REGIONS.slice(below(300)) : Array.from({ length: 100 }, (_, index) => `R${index}`);
    let known = below(regions.length) + 1;
    for (const region of regions.slice(0, known)) publishUntil(service, region, below(4));
    const before = new Map(regions.map((region) => [region, service.head(region).seq]));
    service.refuses = random() < 0.3;
    const { client, told, errors } = start(service, { regions: [regions[0]!, random() < 0.5 ? "ALL" : LAST], ...HTTP });
    const begun = new Map<string, number>();
    client.addEventListener("subscribed", ({ detail: { region } }) => {
      const named = region === "ALL" ? regions : [region];
      for (const name of named) if (!begun.has(name)) begun.set(name, service.head(name).seq);
    });
    service.deliver = () => [10, 900].filter(() => random() < 0.5);
    for (let step = 0; step < 100; step++) {
      const chance = random();
      if (chance < 0.6) for (let count = below(8); count; count--) service.publish(regions[below(known)]!);
      else if (chance < 0.65) known = Math.min(regions.length, known + below(40));
      else if (chance < 0.68) service.cut();
      else if (chance < 0.72) service.refuses = !service.refuses;
      else if (chance < 0.75) service.status = service.status === 200 ? 503 : 200;
      else if (chance < 0.77) service.loseSubscriptions();
      else if (chance < 0.8) client.watch("ALL");
      await pass(random() < 0.05 ? 60_000 : below(1_500));
    }
    [service.status, service.refuses, service.deliver] = [200, false, () => [10]];
    client.watch("ALL");
    await pass(ONE_CHECK);
    for (const region of regions) {
      const seen = told.filter((alert) => alert.startsWith(`${region} `));
      const first = service.head(region).seq - seen.length + 1;
      expect(seen, `seed ${seed}`).toEqual(alertsOf(region, first, service.head(region).seq));
      expect(first, `seed ${seed} ${region}`).toBeGreaterThan(before.get(region)!);
      expect(first, `seed ${seed} ${region}`).toBeLessThanOrEqual(begun.get(region)! + 1);
    }
    expect(errors).toEqual([]);
    client.close();
  }
});
