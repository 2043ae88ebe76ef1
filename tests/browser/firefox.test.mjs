// The client in a real Firefox: what depends on the browser's locks, channels and sockets.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Firefox } from "./bidi.mjs";
import { Site, hasTold, leaksNothing, sendsItsToken, tellsOfCors } from "./site.mjs";

let firefox;

before(async () => {
  firefox = await Firefox.launch();
});
after(() => firefox?.close());

test("two tabs share a connection; when the leading one closes the other takes over", async (t) => {
  const site = await Site.on(t, firefox);
  const first = await site.open();
  const second = await site.open();
  await site.publish(2);
  await hasTold(first, 1, 2);
  await hasTold(second, 1, 2);
  assert.deepEqual([await first.evaluate("sockets.length"), await second.evaluate("sockets.length")], [1, 0]);
  await first.close();
  await site.publish(3);
  await second.until(`told.length === 5 && states.at(-1) === "open"`, "[told, states]");
  await site.publish();
  await hasTold(second, 1, 6);
  assert.equal(await second.evaluate("sockets.length"), 1);
});

test("a client that is closed in the tick that made it leaves no connection", async (t) => {
  await leaksNothing(await Site.on(t, firefox));
});

test("a token goes beside the subprotocol, which is answered", (t) => sendsItsToken(t, firefox));

test("a page that may not read is told which parameter names its origin", (t) => tellsOfCors(t, firefox));
