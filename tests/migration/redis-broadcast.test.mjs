// New-trending broadcast: a cron job in PHP publishes to one Redis channel, and a Python server tells every browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program, startRedis, startService } from "./site.mjs";

const VIDEOS = [
  { region: "JP", title: "新曲『夜に駆ける』", channel: "音楽チャンネル" },
  { region: "KR", title: "새로운 뮤직비디오", channel: "뮤직" },
  { region: "TW", title: "全新單曲 🎵", channel: "音樂頻道" },
];

/** Lets the cron job publish these videos, one region after the other. */
async function publish(t, redis, videos) {
  const publisher = new Program(t, "php", ["redis-broadcast/publisher.php"], { REDIS_HOST: redis.socket });
  for (const video of videos)
    publisher.type(JSON.stringify({ id: `v-${video.region}`, thumbnail: "https://example.com/v.jpg", ...video }));
  publisher.closeInput();
  assert.deepEqual(await publisher.succeeds(), []);
}

const browser = (t, address) =>
  new Program(t, "node", ["--import", "./browser.mjs", "redis-broadcast/client.js", address]);
const python = (t, address, ...region) => new Program(t, "python3", ["redis-broadcast/client.py", address, ...region]);

test("Redis broadcast: with the default region ALL a client gets everything as it was published", async (t) => {
  const service = await startService(t, { DefaultRegion: "ALL" });
  const redis = await startRedis(t, service);
  const clients = [
    browser(t, service.webSocketAddress),
    browser(t, service.webSocketAddress),
    python(t, service.webSocketAddress),
  ];
  await Promise.all(clients.map((client) => client.prints(/^connected$/)));
  const began = Math.floor(Date.now() / 1000);
  await publish(t, redis, VIDEOS);
  await Promise.all(clients.slice(0, 2).map((client) => client.prints(/^\{/, VIDEOS.length)));
  await clients[2].prints(/^New in/, VIDEOS.length);
  const toasts = VIDEOS.map(({ region, title }) => `New in ${region} ${title}`);
  for (const client of clients.slice(0, 2)) {
    assert.deepEqual(client.lines.filter((line) => line.startsWith("New in")).sort(), toasts);
    for (const { region, title, channel } of VIDEOS) {
      const message = JSON.parse(client.lines.find((line) => line.includes(title) && line.startsWith("{")));
      const { event, video_id, thumbnail, ts } = message;
      assert.deepEqual(
        { event, region: message.region, video_id, title: message.title, thumbnail, channel: message.channel },
        {
          ...{
            event: "new_trending",
            region,
            video_id: `v-${region}`,
            title,
            thumbnail: "https://example.com/v.jpg",
            channel,
          },
        },
      );
      assert.ok(ts >= began && ts <= Date.now() / 1000, "seconds since 1970, of the publisher");
    }
  }
});

test("Redis broadcast: the header X-Region chooses a region; without it a client gets everything", async (t) => {
  const service = await startService(t, { DefaultRegion: "ALL" });
  const redis = await startRedis(t, service);
  const [japan, everything, all] = [["JP"], [], ["ALL"]].map((region) =>
    python(t, service.webSocketAddress, ...region),
  );
  await Promise.all([japan, everything, all].map((client) => client.prints(/^connected$/)));
  const [first, ...others] = VIDEOS;
  await publish(t, redis, others);
  await Promise.all([everything, all].map((client) => client.prints(/^New in/, others.length)));
  await publish(t, redis, [first]);
  await everything.prints(/^New in JP/);
  await japan.prints(/^New in JP/);
  assert.deepEqual(japan.lines, ["connected", `New in JP: ${first.title}`]);
});

test("Redis broadcast: a page that says nothing is cut when it has been idle, and comes back by itself", async (t) => {
  const service = await startService(t, { DefaultRegion: "ALL" }, ["--idle-timeout", "500ms"]);
  await browser(t, service.webSocketAddress).prints(/^connected$/, 3);
});
