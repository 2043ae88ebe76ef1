// The publishers of examples/publishers, which sign webhooks.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { promisify } from "node:util";
import { ROOT, startLocal, stopLocal } from "../local.mjs";

const SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
const PUBLISHERS = { Python: ["python3", "publish.py"], PHP: ["php", "publish.php"] };

/** Bound of a publisher, in milliseconds. */
const WAIT_MAX = 60_000;

/** Runs a publisher, and returns what it printed. Rejects where it fails. */
async function publish([program, file], url, title) {
  const options = {
    cwd: `${ROOT}/examples/publishers`,
    env: { PATH: process.env.PATH, WEBHOOK_URL: url, WEBHOOK_SECRET: SECRET },
    timeout: WAIT_MAX,
  };
  return (await promisify(execFile)(program, [file, "PL", "v1", title], options)).stdout;
}

for (const [language, publisher] of Object.entries(PUBLISHERS)) {
  test(`${language}: an alert is published, and one that is refused says why`, async (t) => {
    const secret = ["--parameter", "WebhookSecretParameter=/webhook", "--secret", `/webhook=${SECRET}`];
    const local = await startLocal(secret);
    t.after(() => stopLocal(local));
    const url = new URL("/webhook", local.address).href;
    const answer = JSON.parse(await publish(publisher, url, "Zażółć 🎉"));
    assert.equal(answer.published, true);
    const { alerts } = await (await fetch(new URL("/alerts?region=PL", local.address))).json();
    assert.deepEqual(
      alerts.map(({ video }) => video.title),
      ["Zażółć 🎉"],
    );
    await assert.rejects(publish(publisher, url, "x".repeat(10_000)), /not published \(400\)/);
  });

  test(`${language}: an attempt that fails is made again with the same id`, async (t) => {
    const ids = [];
    const server = createServer(({ headers }, response) => {
      ids.push(headers["webhook-id"]);
      response.writeHead(ids.length === 1 ? 503 : 200, { "content-type": "application/json" });
      response.end('{"published":true}');
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    await publish(publisher, `http://127.0.0.1:${server.address().port}/webhook`, "Once");
    assert.equal(ids.length, 2);
    assert.equal(ids[0], ids[1]);
  });
}
