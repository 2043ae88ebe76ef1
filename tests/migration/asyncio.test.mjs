// Region alerts with a webhook: a Python server on asyncio, whose clients subscribe by message and whose scorer posts
// to the root.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program, startService, takeBack, WEBHOOK_SECRET, WEBHOOKS } from "./site.mjs";

const watch = (t, service, regions, variables) =>
  new Program(t, "python3", ["asyncio/client.py", service.webSocketAddress, ...regions], variables);

/** Lets the scorer post these videos: `[region, title, score]`. */
async function publish(t, address, videos, variables) {
  const publisher = new Program(t, "python3", ["asyncio/publisher.py", address], variables);
  for (const [region, title, score] of videos) publisher.type(JSON.stringify({ region, video: video(title, score) }));
  publisher.closeInput();
  return publisher.succeeds();
}

const video = (title, score) => ({ id: `v-${title}`, title, thumbnail: "https://example.com/v.jpg", score });

/** The alerts that a client has printed, without their fields and times. */
const toasts = (client) => client.lines.flatMap((line) => /^(Viral in .*?) \{/.exec(line)?.[1] ?? []);

test("asyncio: a client gets the alerts of its regions, as they were published, and once", async (t) => {
  const service = await startService(t);
  const [poland, everything] = [watch(t, service, ["pl"]), watch(t, service, ["all", "pl"])];
  await poland.prints(/^subscribed to PL$/);
  await everything.prints(/^subscribed to ALL$/);
  await everything.prints(/^subscribed to PL$/);

  const posted = [
    ["SE", "Hej", 99],
    ["PL", "Zażółć gęślą jaźń 🎉", 85],
    ["PL", "too low", 84.9],
  ];
  assert.deepEqual(await publish(t, service.address, posted), [], "the scorer has nothing to complain of");
  const toast = await poland.prints(/^Viral/);
  await everything.prints(/^Viral in PL/);
  // A type that the client does not know.
  await takeBack(service, "PL", 1);
  await publish(t, service.address, [["PL", "the last one", 90]]);
  await poland.prints(/the last one/);
  await everything.prints(/the last one/);
  assert.deepEqual(toasts(poland), ["Viral in PL! Zażółć gęślą jaźń 🎉", "Viral in PL! the last one"]);
  assert.deepEqual(toasts(everything).sort(), [
    "Viral in PL! Zażółć gęślą jaźń 🎉",
    "Viral in PL! the last one",
    "Viral in SE! Hej",
  ]);

  const [, sent, timestamp] = /(\{.*\}) (\S+)$/.exec(toast);
  assert.deepEqual(JSON.parse(sent), video("Zażółć gęślą jaźń 🎉", 85));
  assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/);
});

test("asyncio: the client's pings are answered, and keep it from being cut as idle", async (t) => {
  const service = await startService(t, {}, ["--idle-timeout", "2s"]);
  const client = watch(t, service, ["se"], { PING_SECONDS: "0.25" });
  // Three seconds.
  await client.prints(/^pong$/, 12);
  assert.deepEqual(
    client.lines.filter((line) => line !== "pong"),
    ["subscribed to SE"],
  );
});

test("asyncio: an alert that nobody watches goes to everybody", async (t) => {
  const service = await startService(t);
  const netherlands = watch(t, service, ["nl"]);
  await netherlands.prints(/^subscribed to NL$/);
  await publish(t, service.address, [["AT", "Servus", 97]]);
  await netherlands.prints(/^Viral in AT! Servus/);
});

test("asyncio: a client that subscribes to twelve regions in twelve messages needs MessagesPerSecond", async (t) => {
  const service = await startService(t, { MessagesPerSecond: 12 });
  const regions = Array.from({ length: 12 }, (_, index) => `r${index}`);
  const client = watch(t, service, regions);
  await client.prints(/^subscribed/, regions.length);
  assert.deepEqual(new Set(client.lines), new Set(regions.map((region) => `subscribed to ${region.toUpperCase()}`)));
});

test("asyncio: a client comes back after the service was away, and subscribes again", async (t) => {
  const first = await startService(t);
  const client = watch(t, first, ["no"]);
  await client.prints(/^subscribed to NO$/);
  const [webSocket, http] = [first.webSocketAddress, first.address].map((address) => new URL(address).host);
  await first.stop();
  await client.prints(/^reconnecting in 1 s$/);
  await client.prints(/^reconnecting in 2 s$/);
  const second = await startService(t, {}, ["--ws-addr", webSocket, "--http-addr", http]);
  await client.prints(/^subscribed to NO$/, 2);
  await publish(t, second.address, [["NO", "Hei", 90]]);
  await client.prints(/^Viral in NO! Hei/);
});

test("asyncio, changed: a scorer that signs as a webhook publishes, and one that does not is refused", async (t) => {
  const service = await startService(t, WEBHOOKS);
  const client = watch(t, service, ["uk"]);
  await client.prints(/^subscribed to UK$/);
  const address = `${service.address}webhook`;
  assert.deepEqual(await publish(t, address, [["UK", "unsigned", 90]]), [
    "webhook failed: HTTP Error 401: Unauthorized",
  ]);
  await publish(t, address, [["UK", "signed", 90]], { WEBHOOK_SECRET });
  await client.prints(/^Viral in UK! signed/);
  assert.deepEqual(toasts(client), ["Viral in UK! signed"]);
});
