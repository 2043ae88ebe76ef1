// The adapter of the browser client, in Node.js.

import { createInterface } from "node:readline";
import WebSocket from "ws";

// Wrong clients are tested by the same adapter.
const { ViralAlerts } = await import(process.env.CLIENT ?? "../viral-alerts.js");
const { eventsSocket } = await import(process.env.EVENTS ?? "../viral-alerts-events.js");

const { state, events, ...settings } = JSON.parse(process.argv[2]);
let { token } = settings;
/** What the client keeps, by key. */
const kept = new Map(state);

const print = (line) => console.log(JSON.stringify(line));

const options = {
  ...settings,
  ...(token && { token: () => token }),
  storage: { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) },
  WebSocket,
};
const client = new ViralAlerts({ ...options, ...(events && { WebSocket: eventsSocket(options) }) });
for (const type of ["alert", "removed", "gap", "error"]) {
  client.addEventListener(type, ({ detail }) => print({ [type]: detail }));
}
client.addEventListener("subscribed", ({ detail }) => print({ ready: detail.region }));

for await (const line of createInterface({ input: process.stdin })) {
  const { watch = [], unwatch = [], ...more } = JSON.parse(line);
  watch.forEach(client.watch);
  unwatch.forEach(client.unwatch);
  token = more.token ?? token;
}
client.close();
print({ stopped: [...kept] });
// A retry that was due keeps Node.js running for some seconds.
process.exit();
