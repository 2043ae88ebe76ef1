// Per-region channels with right-to-left text: PHP publishes to tvs:REGION, and a Python server tells the browsers of
// that region.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program, startRedis, startService, takeBack } from "./site.mjs";

const PARAMETERS = { DefaultRegion: "US", FallbackToEveryone: "false" };

const watch = (t, service, region) =>
  new Program(t, "node", ["--import", "./browser.mjs", "redis-per-region/client.js", service.webSocketAddress, region]);

async function publish(t, redis, ...video) {
  const publisher = new Program(t, "php", ["redis-per-region/publisher.php", ...video], { REDIS_HOST: redis.socket });
  assert.deepEqual(await publisher.succeeds(), []);
}

test("Redis per region: a client gets its region alone, and learns which way a title runs", async (t) => {
  const service = await startService(t, PARAMETERS);
  const redis = await startRedis(t, service);
  const [emirates, finland] = [watch(t, service, "ae"), watch(t, service, "FI")];
  await Promise.all([emirates, finland].map((client) => client.prints(/^connected$/)));
  await publish(t, redis, "AE", "v1", "أغنية جديدة", "قناة الموسيقى");
  await emirates.prints(/<div/);
  // The title is in Latin letters: the publisher's `rtl` counts.
  await publish(t, redis, "AE", "v2", "Remix 2026", "قناة الموسيقى");
  await emirates.prints(/<div/, 2);
  // This client takes every frame for an alert, so it must not get this one.
  await takeBack(service, "AE", 1);
  await publish(t, redis, "DK", "v3", "Ny sang, which nobody watches", "Musik");
  await redis.bridge.prints(/message published.*DK|DK.*message published/);
  await publish(t, redis, "FI", "v4", "Uusi kappale", "Musiikki");
  await finland.prints(/<div/);
  assert.deepEqual(emirates.lines, [
    "connected",
    '<div class="toast" dir="rtl"><b>أغنية جديدة</b> قناة الموسيقى</div>',
    '<div class="toast" dir="rtl"><b>Remix 2026</b> قناة الموسيقى</div>',
  ]);
  assert.deepEqual(finland.lines, ["connected", '<div class="toast"><b>Uusi kappale</b> Musiikki</div>']);
});

test("Redis per region: a client that names no region gets the default one", async (t) => {
  const service = await startService(t, PARAMETERS);
  const redis = await startRedis(t, service);
  const [bare, finland] = [
    new Program(t, "node", ["--import", "./browser.mjs", "redis-broadcast/client.js", service.webSocketAddress]),
    watch(t, service, "FI"),
  ];
  await Promise.all([bare, finland].map((client) => client.prints(/^connected$/)));
  await publish(t, redis, "FI", "v1", "Uusi kappale", "Musiikki");
  await finland.prints(/<div/);
  await publish(t, redis, "US", "v2", "New single", "Music");
  await bare.prints(/^New in US/);
  assert.deepEqual(
    bare.lines.filter((line) => line.startsWith("New in")),
    ["New in US New single"],
  );
});
