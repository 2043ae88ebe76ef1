// Alerts that reach everyone because their region has no subscribers.

import { expect, test } from "vitest";
import type { ViralAlert } from "../src/viral-alerts.js";
import { newStorage, pass, publishUntil, start } from "./application.js";
import { Browser } from "./browser.js";
import { service } from "./current.js";

test("an alert of a region that is not watched is told once, marked, and nothing is kept or asked for", async () => {
  const storage = newStorage();
  const { client, told, subscribed } = start(service, { regions: ["PL"], storage });
  const alerts: ViralAlert[] = [];
  client.addEventListener("alert", ({ detail }) => alerts.push(detail));
  await pass(100);
  publishUntil(service, "FR", 6);
  service.deliver = () => [10, 20, 900];
  const alert = service.publishToEveryone("FR");
  await pass(60_000);
  expect(alerts).toEqual([{ ...alert, everyone: true }]);
  expect(told).toEqual(["FR 7"]);
  expect(subscribed.length).toBe(1);
  expect(storage.getItem(`viral-alerts wss://service.example/prod true`)).toBe(
    JSON.stringify({ PL: { epoch: 0, seq: 0 } }),
  );
  await pass(20 * 60_000);
  expect(service.messages.map(({ type, regions, since }) => [type, regions, Object.keys(since ?? {})])).toEqual([
    ["subscribe_region", ["PL"], []],
    ["keepalive", ["PL"], ["PL"]],
    ["keepalive", ["PL"], ["PL"]],
  ]);
});

test("an alert without the mark of a region that is not watched is not told", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  const alert = service.publish("FR");
  for (const socket of service.sockets) socket.pushes(alert, 10);
  await pass(100);
  expect(told).toEqual([]);
});

test("several of one region are told in any order, and each once", async () => {
  const { told } = start(service);
  await pass(100);
  const delays = [[300, 310], [10, 400], [200]];
  service.deliver = ({ seq }) => delays[seq! - 1]!;
  for (let times = 0; times < 3; times++) service.publishToEveryone("FR");
  await pass(60_000);
  expect(told).toEqual(["FR 2", "FR 3", "FR 1"]);
});

test("a region that is watched keeps its order, whatever reached everyone before", async () => {
  const { client, told } = start(service, { regions: ["PL"] });
  await pass(100);
  service.publishToEveryone("FR");
  await pass(100);
  service.deliver = () => [500];
  service.publishToEveryone("FR");
  client.watch("FR");
  await pass(100);
  // The alert that was on its way comes before the beginning of the region.
  await pass(1_000);
  service.deliver = ({ seq }) => [seq === 3 ? 200 : 10];
  publishUntil(service, "FR", 4);
  await pass(1_000);
  expect(told).toEqual(["FR 1", "FR 3", "FR 4"]);
});

test("a position of an earlier visit does not hold an alert to everyone back", async () => {
  const storage = newStorage();
  storage.setItem(
    `viral-alerts wss://service.example/prod true`,
    JSON.stringify({ FR: { epoch: service.epoch, seq: 40 } }),
  );
  const { told } = start(service, { regions: ["PL"], storage });
  await pass(100);
  service.publishToEveryone("FR");
  await pass(100);
  expect(told).toEqual(["FR 1"]);
});

test("each tab is told once, whether it leads, and whatever it watches", async () => {
  const browser = new Browser();
  const tabs = [["PL"], ["DE"], []].map((regions) => {
    browser.open();
    return start(service, { regions, storage: newStorage() });
  });
  await pass(1_000);
  expect(service.sockets.size).toBe(1);
  service.deliver = () => [10, 20];
  service.publishToEveryone("FR");
  await pass(100);
  expect(tabs.map(({ told }) => told)).toEqual([["FR 1"], ["FR 1"], ["FR 1"]]);
  const connections = [...service.sockets];
  tabs[0]!.client.close();
  await pass(1_000);
  // Another tab leads now, and gets a late repeat.
  const alert = { ...service.publish("XX"), region: "FR", everyone: true };
  expect(service.sockets.size).toBe(1);
  for (const socket of service.sockets) {
    expect(connections).not.toContain(socket);
    socket.pushes(alert, 10);
  }
  await pass(100);
  expect(tabs.map(({ told }) => told)).toEqual([["FR 1"], ["FR 1"], ["FR 1"]]);
});

test("repeats are told apart among the newest hundred, so that nothing grows", async () => {
  const { told } = start(service);
  await pass(100);
  const alerts = Array.from({ length: 101 }, () => service.publishToEveryone("FR"));
  await pass(100);
  const repeat = (index: number): void => {
    for (const socket of service.sockets) socket.pushes({ ...alerts[index]!, everyone: true }, 10);
  };
  for (let index = 1; index < 101; index++) repeat(index);
  await pass(100);
  expect(told.length).toBe(101);
});

test("fields that the client does not know reach the page as they came", async () => {
  const { client } = start(service, { regions: ["PL"] });
  const alerts: ViralAlert[] = [];
  client.addEventListener("alert", ({ detail }) => alerts.push(detail));
  await pass(100);
  const alert = {
    ...service.publish("PL"),
    video: { id: "v", title: "", views: 5, nested: { deep: [1] } },
    sponsor: "none",
  };
  for (const socket of service.sockets) socket.pushes(alert, 1);
  await pass(100);
  expect(alerts).toEqual([alert]);
});
