// What the client says while it is looked at, counted: the cost model (infra/cost) multiplies these figures with
// prices.

import { expect, test } from "vitest";
import figures from "../../infra/cost/client.json" with { type: "json" };
import { pass, start } from "./application.js";
import { startService } from "./current.js";

/** Bytes of a message that are billed as one. Source: API Gateway. */
const UNIT_BYTES = 32 * 1_024;
const MINUTES = [30, 60, 24 * 60];

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `R-${index}`);
const WATCHES: Record<string, string[]> = {
  "1 region": ["PL"],
  "25 regions": names(25),
  "60 regions": names(60),
  "ALL of 300 regions": ["ALL"],
};

/** Follows `regions` for so many minutes in which nothing is published. */
async function count(regions: string[], minutes: number) {
  const service = startService();
  for (const region of regions[0] === "ALL" ? names(300) : regions) service.publish(region);
  const { client } = start(service, { regions });
  await pass(minutes * 60_000);
  client.close();
  const of = (type: string): number => service.frames.filter((frame) => frame.type === type).length;
  const [connections, subscriptions, keepalives] = [service.handshakes.length, of("subscribe_region"), of("keepalive")];
  expect([of("subscribed"), of("kept")]).toEqual([subscriptions, keepalives]);
  expect(service.frames.length).toBe(2 * (subscriptions + keepalives));
  const units = service.frames.reduce((sum, { bytes }) => sum + Math.ceil(bytes / UNIT_BYTES), 0);
  return { minutes, connections, subscriptions, keepalives, units };
}

test("the figures that the cost model reckons with are those of the client", async () => {
  const counted: Record<string, object[]> = {};
  for (const [watches, regions] of Object.entries(WATCHES)) {
    counted[watches] = [];
    for (const minutes of MINUTES) counted[watches].push(await count(regions, minutes));
  }
  expect(figures.counted).toEqual(counted);
});
