// What the client says while it is looked at, counted: the cost model (infra/cost) multiplies these figures with
// prices.

import { expect, test, vi } from "vitest";
import figures from "../../infra/cost/client.json" with { type: "json" };
import { pass, start } from "./application.js";
import { appSync, startService } from "./current.js";
import { read } from "./files.js";

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

test("the cost model of the Event API reckons with what a client does there", async () => {
  const source = read("../../infra/cost/src/event_api.rs");
  const figure = (name: string): number => {
    const factors = new RegExp(`const ${name}: f64 = ([^;]*);`).exec(source)![1]!.split("*");
    return factors.map(Number).reduce((product, factor) => product * factor);
  };
  const [life, look] = [figure("LIFE_MINUTES"), figure("LOOK_MINUTES")];
  // Every pause is its average.
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  const service = startService();
  service.publish("PL");
  start(service, { regions: ["PL"] });
  const connections = 3;
  await pass((connections * life - 1) * 60_000);
  expect(service.handshakes.length).toBe(connections);
  const operations = appSync.handshakes.length + appSync.messages.filter(({ type }) => type === "subscribe").length;
  expect(operations).toBe(connections * figure("OPERATIONS_PER_CONNECTION"));
  const looks = figure("LOOKS_PER_CONNECTION") + Math.ceil(life / look) - 1;
  // The first request asks whether there is an Event API.
  expect(service.requests.length).toBe(1 + connections * looks);
});
