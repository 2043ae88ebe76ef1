// Runs beside the emulator, which `apigw-local exec` has started. Node.js 22 has all that this needs.

import assert from "node:assert/strict";
import { once } from "node:events";
import { beforeEach, test } from "node:test";

const { APIGW_LOCAL_WS_URL, APIGW_LOCAL_HTTP_URL } = process.env;

/** Bound of a test, in milliseconds. A function starts a process when it is first invoked. */
const timeout = 60_000;

// Closes the connections of the test before, and empties all tables.
beforeEach(async () => {
  const { ok } = await fetch(new URL("/reset", APIGW_LOCAL_HTTP_URL), { method: "POST" });
  assert.ok(ok);
});

async function connected(t) {
  const socket = new WebSocket(APIGW_LOCAL_WS_URL);
  t.after(() => socket.close());
  await once(socket, "open");
  return socket;
}

async function answer(socket, message) {
  socket.send(message);
  const [{ data }] = await once(socket, "message");
  return data;
}

test("a message is answered with its text", { timeout }, async (t) => {
  const socket = await connected(t);
  assert.equal(await answer(socket, "hello"), "you said: hello");
});

test("each client gets its own answer", { timeout }, async (t) => {
  const [ada, ben] = [await connected(t), await connected(t)];
  const answers = await Promise.all([answer(ada, "I am Ada"), answer(ben, "I am Ben")]);
  assert.deepEqual(answers, ["you said: I am Ada", "you said: I am Ben"]);
});
