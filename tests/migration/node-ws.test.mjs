// Notifications and chat on Node.js with the package ws: rooms, echo, heartbeats, and a back end that notifies
// everybody.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Program, startService, WEBHOOK_SECRET, WEBHOOKS } from "./site.mjs";

const chat = (t, service, who, variables) =>
  new Program(t, "node", ["node-ws/client.js", service.webSocketAddress, ...who], variables);
const publisher = (t, address, text, variables) =>
  new Program(t, "node", ["node-ws/publisher.js", address, text], variables);

/** What a client has printed that is a frame. */
const frames = (client) => client.lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));

test("Node ws: a message to a room reaches everyone in it, the speaker too, with the same fields", async (t) => {
  const service = await startService(t, { Rooms: "on" });
  const [ola, per, eva] = [
    ["Ola", "general"],
    ["Per", "general"],
    ["Eva", "elsewhere"],
  ].map((who) => chat(t, service, who));
  await Promise.all([ola, per, eva].map((client) => client.prints(/"joined"/)));
  ola.type("/typing");
  await Promise.all([ola, per].map((client) => client.prints(/"typing"/)));
  // Changed line: a typed text is chat in the room, and not a text to every client.
  ola.type("Cześć 👋");
  await Promise.all([ola, per].map((client) => client.prints(/"chat"/)));
  for (const client of [ola, per]) {
    const [joined, typing, { timestamp, ...said }, ...more] = frames(client);
    assert.deepEqual(joined, { type: "joined", room: "general" });
    assert.deepEqual(typing, { type: "typing", user: "Ola" });
    assert.deepEqual(said, { type: "chat", user: "Ola", message: "Cześć 👋" });
    assert.ok(Math.abs(Date.parse(timestamp) - Date.now()) < 60_000, timestamp);
    assert.deepEqual(more, []);
  }
  eva.type("hej");
  await eva.prints(/"chat"/);
  assert.equal(frames(eva).length, 2, "of another room she has heard nothing");
});

test("Node ws: who joins no room is in the global one with the first word", async (t) => {
  const service = await startService(t, { Rooms: "on" });
  const [ola, per] = ["Ola", "Per"].map((user) => chat(t, service, [user]));
  await Promise.all([ola, per].map((client) => client.prints(/^connected$/)));
  ola.type("/typing");
  await ola.prints(/"typing"/);
  per.type("hej");
  await Promise.all([ola, per].map((client) => client.prints(/"chat"/)));
  assert.deepEqual(
    frames(per).map(({ type, user }) => [type, user]),
    [["chat", "Per"]],
  );
});

test("Node ws, changed: a message that names its room reaches it, even before `joined`", async (t) => {
  const service = await startService(t, { Rooms: "on" });
  const [ola, per] = [["Ola"], ["Per", "general"]].map((who) => chat(t, service, who));
  await ola.prints(/^connected$/);
  await per.prints(/"joined"/);
  for (const message of [{ type: "join" }, { type: "chat", user: "Ola", message: "hej" }])
    ola.type(`/raw ${JSON.stringify({ ...message, room: "general" })}`);
  const { timestamp, ...said } = JSON.parse(await per.prints(/"chat"/));
  assert.deepEqual(said, { type: "chat", room: "general", user: "Ola", message: "hej" });
  await ola.prints(/"chat"/);
});

test("Node ws: an echo comes back, where it says that it is one", async (t) => {
  const service = await startService(t);
  const client = chat(t, service, ["Ola"]);
  await client.prints(/^connected$/);
  client.type("/echo zażółć");
  await client.prints(/"response"/);
  assert.deepEqual(frames(client), [{ type: "response", data: { type: "echo", text: "zażółć" } }]);
});

test("Node ws: text or types that the server sent to everybody get an error, and the socket stays open", async (t) => {
  const service = await startService(t, { Rooms: "on" });
  const [ola, per] = ["Ola", "Per"].map((user) => chat(t, service, [user, "general"]));
  await Promise.all([ola, per].map((client) => client.prints(/"joined"/)));
  for (const text of ["Hello everybody", '{"type":"alert","text":"New order!"}']) ola.type(`/raw ${text}`);
  await ola.prints(/"error"/, 2);
  ola.type("still here");
  await Promise.all([ola, per].map((client) => client.prints(/"chat"/)));
  assert.deepEqual(
    frames(ola)
      .flatMap(({ code }) => code ?? [])
      .sort(),
    ["bad_json", "unknown_type"],
  );
  assert.deepEqual(
    frames(per).map(({ type }) => type),
    ["joined", "chat"],
  );
});

test("Node ws: the client's heartbeat is answered, and it comes back to its room when it is not", async (t) => {
  const service = await startService(t, { Rooms: "on" });
  const client = chat(t, service, ["Ola", "general"], { HEARTBEAT_MS: "1500" });
  await client.prints(/"joined"/);
  await client.prints(/^alive$/, 2);
  assert.ok(!client.lines.some((line) => line.startsWith("closed")));
  service.child.kill("SIGSTOP");
  t.after(() => service.child.kill("SIGCONT"));
  await client.prints(/^closed: 1006$/);
  service.child.kill("SIGCONT");
  await client.prints(/"joined"/, 2);
});

test("Node ws, changed: a client that waited for pings sends its own, and gets notifications", async (t) => {
  const service = await startService(t, { DefaultRegion: "ALL", ...WEBHOOKS });
  const client = new Program(t, "node", ["node-ws/watchdog.js", service.webSocketAddress], { HEARTBEAT_MS: "500" });
  await client.prints(/^heard$/, 4);
  await publisher(t, service.address, "New order!").succeeds();
  await client.prints(/^notification: New order!$/);
  const unsigned = publisher(t, `${service.address}webhook`, "unsigned");
  assert.equal(await unsigned.ends(), 1);
  assert.deepEqual(unsigned.lines, ["not notified: 401"]);
  await publisher(t, `${service.address}webhook`, "signed", { WEBHOOK_SECRET }).succeeds();
  await client.prints(/^notification: signed$/);
  assert.ok(!client.lines.some((line) => line.startsWith("closed")), "it was one connection");
});
