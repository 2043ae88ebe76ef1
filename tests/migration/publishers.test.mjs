// The publishers of examples/publishers, which sign webhooks, and what they publish from feeds.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ROOT, startLocal, stopLocal } from "../local.mjs";

const SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
const PUBLISHERS = { Python: ["python3", "publish.py"], PHP: ["php", "publish.php"] };

/** Bound of a publisher, in milliseconds. */
const WAIT_MAX = 60_000;

/** Runs a program of the examples, and returns what it printed. Rejects where it fails. */
async function run([program, ...args], url) {
  const options = {
    cwd: `${ROOT}/examples/publishers`,
    env: { PATH: process.env.PATH, WEBHOOK_URL: url, WEBHOOK_SECRET: SECRET },
    timeout: WAIT_MAX,
  };
  return (await promisify(execFile)(program, args, options)).stdout;
}

/** Runs a publisher. */
const publish = (publisher, url, title) => run([...publisher, "PL", "v1", title], url);

/** Starts a service that knows the secret, and returns it with the address for webhooks. */
async function startService(t) {
  const local = await startLocal(["--parameter", "WebhookSecretParameter=/webhook", "--secret", `/webhook=${SECRET}`]);
  t.after(() => stopLocal(local));
  return { ...local, url: new URL("/webhook", local.address).href };
}

async function published({ address }) {
  const { alerts } = await (await fetch(new URL("/alerts?region=PL", address))).json();
  return alerts.map(({ video }) => video);
}

/** Starts a server that answers with what `answer` returns, and returns its address. */
async function startServer(t, answer) {
  const server = createServer((request, response) => {
    const [status, body] = answer(request);
    response.writeHead(status, { "content-type": "application/json" });
    response.end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}/`;
}

for (const [language, publisher] of Object.entries(PUBLISHERS)) {
  test(`${language}: an alert is published, and one that is refused says why`, async (t) => {
    const service = await startService(t);
    const answer = JSON.parse(await publish(publisher, service.url, "Zażółć 🎉"));
    assert.equal(answer.published, true);
    assert.deepEqual(
      (await published(service)).map(({ title }) => title),
      ["Zażółć 🎉"],
    );
    await assert.rejects(publish(publisher, service.url, "x".repeat(10_000)), /not published \(400\)/);
    await assert.rejects(run([...publisher, "PL"], service.url), /WEBHOOK_SECRET=whsec_/);
  });

  test(`${language}: an attempt that fails is made again with the same id`, async (t) => {
    const ids = [];
    const url = await startServer(t, ({ headers }) => {
      ids.push(headers["webhook-id"]);
      return [ids.length === 1 ? 503 : 200, '{"published":true}'];
    });
    await publish(publisher, url, "Once");
    assert.equal(ids.length, 2);
    assert.equal(ids[0], ids[1]);
  });
}

const FEEDS = {
  // As news sites write it.
  RSS: (items) => `<?xml version="1.0" encoding="UTF-8"?>
    <rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/"><channel><title>Feed</title>
    ${items
      .map(
        ({ id, title, url, picture }) => `<item>
        <media:title>Another</media:title><title><![CDATA[${title}]]></title><link>${url}</link>
        <guid isPermaLink="false">${id}</guid><media:thumbnail width="240" url="${picture}"/></item>`,
      )
      .join("")}</channel></rss>`,
  // As YouTube writes it.
  Atom: (items) => `<?xml version="1.0" encoding="UTF-8"?>
    <feed xmlns:media="http://search.yahoo.com/mrss/" xmlns="http://www.w3.org/2005/Atom"><id>feed</id>
    ${items
      .map(
        ({ id, title, url, picture }) => `<entry><id>${id}</id><title>${title.replace("&", "&amp;")}</title>
        <link rel="self" href="https://example.com/self"/><link rel="alternate" href="${url}"/>
        <media:group><media:title>Another</media:title><media:thumbnail url="${picture}"/></media:group></entry>`,
      )
      .join("")}</feed>`,
  "JSON Feed": (items) =>
    JSON.stringify({ items: items.map(({ picture, ...others }) => ({ ...others, image: picture })) }),
};

const item = (id, title = `Title of ${id}`) => ({
  id,
  title,
  url: `https://example.com/${id}`,
  picture: `https://example.com/${id}.jpg`,
});

/** A file for what feed.py has seen. */
function seenFile(t) {
  const directory = mkdtempSync(join(tmpdir(), "viral-alerts-feed-"));
  t.after(() => rmSync(directory, { recursive: true }));
  return join(directory, "seen.json");
}

for (const [kind, write] of Object.entries(FEEDS)) {
  test(`${kind}: what is new since the run before is published once, the oldest first`, async (t) => {
    const service = await startService(t);
    let items = [item("b"), item("a")];
    const feed = await startServer(t, () => [200, write(items)]);
    const seen = seenFile(t);
    const look = () => run(["python3", "feed.py", feed, "PL", seen], service.url);
    assert.match(await look(), /^2 entries were there before/);
    // As long as a title may be, in characters outside of the basic plane.
    items = [item("d", "🎉".repeat(400)), item("c", "Żółć & more"), ...items];
    await look();
    assert.equal(await look(), "");
    const { url, picture, ...c } = item("c", "Żółć & more");
    const expected = { ...c, url, thumbnail: picture, score: 97 };
    const [first, second, ...others] = await published(service);
    assert.deepEqual([first, second.title, others], [expected, "🎉".repeat(300), []]);
  });
}

test("a run that forgot what it published publishes nothing twice, and an outage is for the next run", async (t) => {
  const service = await startService(t);
  let items = [];
  const feed = await startServer(t, () => [200, FEEDS["JSON Feed"](items)]);
  const [seen, other] = [seenFile(t), seenFile(t)];
  const look = (file, url) => run(["python3", "feed.py", feed, "PL", file], url);
  await look(seen, service.url);
  await look(other, service.url);
  items = [item("b"), item("a")];
  const down = await startServer(t, () => [503, "{}"]);
  await assert.rejects(look(seen, down), /a: not published \(503\)/);
  await look(seen, service.url);
  // Another file has not seen that.
  assert.match(await look(other, service.url), /"duplicate": true/);
  assert.equal((await published(service)).length, 2);
});

test("a feed that cannot be read, and an entry that is refused, are said, and the others are published", async (t) => {
  const service = await startService(t);
  let answer = [200, FEEDS.RSS([])];
  const feed = await startServer(t, () => answer);
  const seen = seenFile(t);
  const look = () => run(["python3", "feed.py", feed, "PL", seen], service.url);
  await look();
  for (const [wrong, reason] of [
    [[404, ""], /cannot read http.*: HTTP Error 404/],
    [[200, "<rss>"], /cannot read http.*: no element found/],
    [[200, '{"items":7}'], /cannot read http/],
    [[200, " ".repeat(5_000_001)], /cannot read http.*: over 5000000 bytes/],
  ]) {
    answer = wrong;
    await assert.rejects(look(), reason);
  }
  const long = item("x".repeat(40_000));
  answer = [200, FEEDS["JSON Feed"]([item("b"), long, item("a")])];
  await assert.rejects(look(), /x: not published \(4\d\d\)/);
  assert.deepEqual(
    (await published(service)).map(({ id }) => id),
    ["a", "b"],
  );
  assert.equal(await look(), "");
});
