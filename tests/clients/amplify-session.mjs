// What a program with Amplify does with an Event API: it ends with an error at the first thing that differs.

import assert from "node:assert/strict";
import { events } from "@aws-amplify/api-graphql";
import { Amplify } from "@aws-amplify/core";
import WebSocket from "ws";

// Node.js 20 has none of its own.
globalThis.WebSocket ??= WebSocket;

const { EVENTS_ENDPOINT: endpoint, EVENTS_KEY: apiKey } = process.env;
const credentials = { accessKeyId: "local", secretAccessKey: "local" };
Amplify.configure(
  { API: { Events: { endpoint, region: "eu-central-1", defaultAuthMode: "apiKey", apiKey } } },
  {
    Auth: {
      credentialsProvider: {
        getCredentialsAndIdentityId: async () => ({ credentials }),
        clearCredentialsAndIdentityId: () => {},
      },
    },
  },
);

/** Subscribes to a channel, and returns it with a function that waits for its next event. */
async function subscribed(name, options) {
  const channel = await events.connect(name, options);
  const received = [];
  let arrived;
  const observer = {
    next: ({ event }) => {
      received.push(event);
      arrived?.();
    },
    error: () => {},
  };
  const subscription = channel.subscribe(observer, options);
  await subscription.ready;
  const next = async () => {
    if (received.length === 0) await new Promise((resolve) => (arrived = resolve));
    return received.shift();
  };
  return { channel, subscription, next };
}

const iam = { authMode: "iam" };
const token = { authMode: "lambda", authToken: "good" };
for (const options of [undefined, token, iam]) {
  const wildcard = await subscribed("/alerts/*", options);
  const one = await subscribed("alerts/PL", options);
  await one.channel.publish([{ n: 1 }, "two"], options);
  // Amplify leaves `failed` out of the answer of a publish that passes as a whole.
  assert.equal(await events.post("/alerts/PL", { n: 3 }, options), undefined);
  for (const { next } of [wildcard, one]) {
    assert.deepEqual([await next(), await next(), await next()], [{ n: 1 }, "two", { n: 3 }]);
  }
  one.subscription.unsubscribe();
  await events.post("alerts/PL/deeper", ["again"], options);
  assert.equal(await wildcard.next(), "again");
  const failed = await events.post("/alerts/PL", ["x".repeat(240 * 1024), 5], options);
  assert.deepEqual(
    failed.map(({ index, code }) => [index, code]),
    [[0, "EventTooLargeException"]],
  );
  assert.equal(await wildcard.next(), 5);
  // A refused subscription leaves the socket and the other one alone.
  await assert.rejects(subscribed("/unknown/x", options), /UnauthorizedException/);
  await assert.rejects(one.channel.publish([1, 2, 3, 4, 5, 6], options), /BadRequestException/);
  await one.channel.publish("still there", options);
  assert.equal(await wildcard.next(), "still there");
  await events.closeAll();
}

const bad = { authMode: "lambda", authToken: "bad" };
await assert.rejects(events.post("/alerts/PL", 1, bad), { name: "UnauthorizedException" });
const refused = await events.connect("/alerts/PL", bad).catch((error) => error);
assert.equal(refused.message, "UnauthorizedException");
// Timers of Amplify would keep the process for minutes.
process.exit(0);
