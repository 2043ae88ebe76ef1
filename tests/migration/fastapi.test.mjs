// Notifications of a FastAPI application: a token in the address, Redis pub/sub or HTTP between instances, events where
// WebSockets fail.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program, startRedis, startService, TOKEN_SECRET, TOKENS } from "./site.mjs";

const JWT_SECRET = TOKEN_SECRET;

/** A token as the application's login makes it. */
async function login(t, user, { seconds = 3600, ...variables } = {}) {
  const [token] = await new Program(t, "python3", ["fastapi/login.py", user, String(seconds)], {
    JWT_SECRET,
    ...variables,
  }).succeeds();
  return token;
}

const python = (t, service, ...who) =>
  new Program(t, "python3", ["fastapi/client.py", service.webSocketAddress, ...who]);
const page = (t, service, token) =>
  new Program(t, "node", [
    "--import",
    "./browser.mjs",
    "fastapi/page.js",
    service.webSocketAddress,
    service.address,
    token,
  ]);
const events = (t, address) => new Program(t, "node", ["--import", "./browser.mjs", "fastapi/events.js", address]);

const notify = (t, service, text) =>
  new Program(t, "python3", ["fastapi/notify.py", `${service.address}publish`, text]).succeeds();

test("FastAPI: a token in the address lets in, and notifications come by HTTP and by Redis", async (t) => {
  const service = await startService(t, { ...TOKENS, DefaultRegion: "ALL" });
  const redis = await startRedis(t, service, ["--channel", "notifications"]);
  const token = await login(t, "ola");
  const clients = [python(t, service, token), page(t, service, token)];
  await Promise.all(clients.map((client) => client.prints(/^connected$/)));
  await notify(t, service, "New order!");
  await Promise.all(clients.map((client) => client.prints(/^Notification: New order!$/)));
  await new Program(t, "python3", ["fastapi/manager.py", "notifications", "Zamówienie wysłane"], {
    REDIS_URL: `unix://${redis.socket}`,
  }).succeeds();
  await Promise.all(clients.map((client) => client.prints(/^Notification: Zamówienie wysłane$/)));
  for (const client of clients) assert.equal(client.lines.length, 3);
});

test("FastAPI: what was published as before, a type and a text, is refused and reaches nobody", async (t) => {
  const service = await startService(t, { DefaultRegion: "ALL" });
  const body = JSON.stringify({ type: "alert", text: "New order!" });
  const response = await fetch(service.address, { method: "POST", body });
  assert.deepEqual([response.status, (await response.json()).error.field], [400, "video"]);
});

test("FastAPI: the client's own branch for errors ends it where 4001 and 4002 were, at the handshake", async (t) => {
  const service = await startService(t, TOKENS);
  const expired = await login(t, "ola", { seconds: -3600 });
  const forged = await login(t, "ola", { JWT_SECRET: "another secret, of 32 bytes and more" });
  const elsewhere = await login(t, "ola", { REGIONS: "PL" });
  for (const [who, status] of [
    [[], 401],
    [[expired], 401],
    [[forged], 401],
    [[elsewhere, "DE"], 403],
  ]) {
    const client = python(t, service, ...who);
    assert.equal(await client.ends(), 2);
    assert.deepEqual(client.lines, [`cannot connect: server rejected WebSocket connection: HTTP ${status}`]);
  }
});

test("FastAPI, changed: a page learns over HTTP that its token is invalid, and stops", async (t) => {
  const service = await startService(t, TOKENS);
  const client = page(t, service, await login(t, "ola", { seconds: -3600 }));
  await client.prints(/^location/);
  assert.deepEqual(client.lines, ["closed: 1006", "location: /login"]);
  assert.equal(await client.ends(), 0);
});

test("FastAPI, changed: events come from /alerts, and without a token the stream ends", async (t) => {
  const service = await startService(t, TOKENS);
  const token = await login(t, "ola");
  const stream = events(t, `${service.address}alerts?region=ALL&token=${token}`);
  await stream.prints(/^open$/);
  await notify(t, service, "New order!");
  await stream.prints(/^Event: New order!$/);
  const stranger = events(t, `${service.address}alerts?region=ALL`);
  await stranger.prints(/^closed, log in again$/);
  assert.deepEqual(stranger.lines, ["closed, log in again"]);
});
