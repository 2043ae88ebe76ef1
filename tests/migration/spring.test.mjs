// Notifications of a Spring application. Its clients and back end are in Java, written with what the JDK has:
// docs/migrating.md says which classes of Spring are the same.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program, startService, TOKENS, WEBHOOK_SECRET, WEBHOOKS } from "./site.mjs";

/** Long enough for an answer on a busy machine. */
const HEARTBEAT_MS = 2_000;

const client = (t, service, region) =>
  new Program(t, "java", [`-Dheartbeat=${HEARTBEAT_MS}`, "spring/Client.java", service.webSocketAddress, region]);
const publisher = (t, address, region, text, variables) =>
  new Program(t, "java", ["spring/Publisher.java", address, region, text], variables);

test("Spring: a client gets the alerts of the region in its header, and an answer to its heartbeat", async (t) => {
  const service = await startService(t, { DefaultRegion: "ALL", ...WEBHOOKS });
  const address = `${service.address}webhook`;
  const [austria, britain] = [client(t, service, "AT"), client(t, service, "GB")];
  await Promise.all([austria, britain].map((program) => program.prints(/^alive$/)));
  const unsigned = publisher(t, address, "AT", "unsigned");
  assert.equal(await unsigned.ends(), 1);
  assert.deepEqual(unsigned.lines, ["not notified: 401"]);
  // Changed lines: what is published has a title, and a signature in an account.
  await publisher(t, address, "AT", "Grüß Gott 👋", { WEBHOOK_SECRET }).succeeds();
  const { event, region, title } = JSON.parse(await austria.prints(/^\{/));
  assert.deepEqual({ event, region, title }, { event: "new_trending", region: "AT", title: "Grüß Gott 👋" });
  await publisher(t, service.address, "GB", "Hello").succeeds();
  assert.equal(JSON.parse(await britain.prints(/^\{/)).title, "Hello");
  for (const program of [austria, britain]) {
    assert.deepEqual(
      program.lines.filter((line) => !line.startsWith("{") && line !== "alive"),
      ["connected"],
    );
  }
});

test("Spring: the client's own branch for a refused handshake ends it", async (t) => {
  const service = await startService(t, TOKENS);
  const stranger = client(t, service, "AT");
  assert.equal(await stranger.ends(), 1);
  assert.deepEqual(stranger.lines, ["refused: 401"]);
});

test("Spring: a client comes back after the service was away", async (t) => {
  const service = await startService(t);
  const watcher = client(t, service, "AT");
  await watcher.prints(/^connected$/);
  const [webSocket, http] = [service.webSocketAddress, service.address].map((address) => new URL(address).host);
  await service.stop();
  await watcher.prints(/^(closed|connection lost)/);
  await startService(t, {}, ["--ws-addr", webSocket, "--http-addr", http]);
  await watcher.prints(/^connected$/, 2);
});
