// ALL where it stands for more regions than a cursor of the log can name.

import { expect, test } from "vitest";
import { BACK, ONE_CHECK, SETTLED, alertsOf, pass, publishUntil, start, until } from "./application.js";
import { service } from "./current.js";

const HTTP = { httpUrl: "https://service.example/" };
/** With names of the greatest length, of which a cursor has place for 146. */
const REGIONS = Array.from({ length: 300 }, (_, index) => `LONG-NAME-${String(index).padStart(6, "0")}`);
const LAST = REGIONS.at(-1)!;

const publishTo = (regions: string[], to: number): void => {
  for (const region of regions) publishUntil(service, region, to);
};

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
  const { client, told, states } = start(service, { regions: ["ALL"], ...HTTP });
  await pass(20_000);
  expect(states.at(-1)).toBe("polling");
  publishTo(REGIONS, 3);
  await pass(20_000);
  service.refuses = false;
  for (let waited = 0; !client.counts.subscribed; waited += 10) {
    expect(waited).toBeLessThan(60_000);
    await pass(10);
  }
  publishTo(REGIONS, 4);
  await pass(BACK);
  expect(told.sort()).toEqual(REGIONS.map((region) => `${region} 4`));
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
