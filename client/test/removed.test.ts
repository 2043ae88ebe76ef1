// Alerts that are taken back.

import { expect, test } from "vitest";
import { SETTLED, newStorage, pass, publishUntil, start } from "./application.js";
import { Browser } from "./browser.js";
import { service } from "./current.js";

/** Like `start`, but records removals too, as `PL removed 1`. */
function startWith(options: Parameters<typeof start>[1]) {
  const application = start(service, options);
  application.client.addEventListener("removed", ({ detail: { region, seq } }) =>
    application.told.push(`${region} removed ${seq}`),
  );
  return application;
}

test("an alert that was told is taken back, and the next one is told as ever", async () => {
  const { client, told } = startWith({ regions: ["PL"] });
  const details: unknown[] = [];
  client.addEventListener("removed", ({ detail }) => details.push(detail));
  await pass(SETTLED);
  const { length } = service.said;
  publishUntil(service, "PL", 2);
  await pass(100);
  const removed = service.remove("PL", 1);
  await pass(100);
  service.publish("PL");
  await pass(60_000);
  expect(told).toEqual(["PL 1", "PL 2", "PL removed 1", "PL 3"]);
  expect(details).toEqual([removed]);
  expect(service.said.length).toBe(length);
});

test("a removal that overtakes its alert leaves nothing to tell and no gap, also where others come early", async () => {
  const { told } = startWith({ regions: ["PL"] });
  await pass(SETTLED);
  const { length } = service.said;
  const delays: Record<number, number[]> = { 1: [300], 2: [200, 500], 3: [10] };
  service.deliver = ({ seq }) => delays[seq!] ?? [10];
  publishUntil(service, "PL", 3);
  service.remove("PL", 2);
  await pass(60_000);
  // The second alert came after its removal, before its turn, and once more later.
  expect(told).toEqual(["PL 1", "PL removed 2", "PL 3"]);
  expect(service.said.length).toBe(length);
});

test("an alert that waits for its turn is taken back before it is told", async () => {
  const { told } = startWith({ regions: ["PL"] });
  await pass(SETTLED);
  service.deliver = ({ seq }) => [seq === 1 ? 400 : 10];
  publishUntil(service, "PL", 2);
  await pass(100);
  service.remove("PL", 2);
  await pass(60_000);
  expect(told).toEqual(["PL 1", "PL removed 2"]);
});

test("a client that comes back after a removal sees no gap and no content", async () => {
  const { told } = startWith({ regions: ["PL", "ALL"] });
  await pass(100);
  publishUntil(service, "PL", 1);
  await pass(100);
  service.cut();
  publishUntil(service, "PL", 4);
  service.remove("PL", 2);
  service.remove("PL", 3);
  await pass(60_000);
  service.publish("PL");
  await pass(60_000);
  expect(told).toEqual(["PL 1", "PL removed 2", "PL removed 3", "PL 4", "PL 5"]);
});

test("so it is by HTTP, page by page and by polling", async () => {
  const { told, states } = startWith({ regions: ["PL"], httpUrl: "https://http.example" });
  await pass(100);
  publishUntil(service, "PL", 1);
  await pass(100);
  service.refuses = true;
  service.cut();
  publishUntil(service, "PL", 150);
  service.remove("PL", 150);
  service.remove("PL", 101);
  await pass(10 * 60_000);
  expect(states).toContain("polling");
  publishUntil(service, "PL", 151);
  await pass(60_000);
  expect(told.length).toBe(151);
  expect(told.slice(99, 102)).toEqual(["PL 100", "PL removed 101", "PL 102"]);
  expect(told.slice(-2)).toEqual(["PL removed 150", "PL 151"]);
});

test("every tab is told, and one that has had the alert keeps its position", async () => {
  const browser = new Browser();
  const tabs = [["PL"], ["PL", "DE"], ["DE"]].map((regions) => {
    browser.open();
    return startWith({ regions, storage: newStorage() }).told;
  });
  await pass(1_000);
  expect(service.sockets.size).toBe(1);
  publishUntil(service, "PL", 2);
  await pass(1_000);
  service.remove("PL", 1);
  await pass(1_000);
  publishUntil(service, "PL", 3);
  await pass(60_000);
  const told = ["PL 1", "PL 2", "PL removed 1", "PL 3"];
  expect(tabs).toEqual([told, told, []]);
});

test("what reached everyone is taken back where it was told, and is not told after that", async () => {
  const storage = newStorage();
  const { told } = startWith({ regions: ["PL"], storage });
  await pass(100);
  service.deliver = ({ seq }) => (seq === 1 ? [10, 700] : [300]);
  service.publishToEveryone("FR");
  await pass(100);
  service.remove("FR", 1);
  service.publishToEveryone("FR");
  service.remove("FR", 2);
  await pass(60_000);
  expect(told).toEqual(["FR 1", "FR removed 1"]);
  expect(storage.getItem(`viral-alerts wss://service.example/prod true`)).toBe(
    JSON.stringify({ PL: { epoch: 0, seq: 0 } }),
  );
});
