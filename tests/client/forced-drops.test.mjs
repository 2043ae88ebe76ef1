// The built client in Node.js against the local mode with faults, over the WebSocket API and over the Event API.
// Connections are cut 10,000 times while alerts are published, and the gateway is killed three times. Every client has
// to get every alert of its regions once, in order.
//
//   npm test                                       a run with a seed of its own, which it prints
//   SEED=1234 CLIENTS=200 DROPS=10000 npm test     the same run again, as far as two processes allow

import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { randomOf } from "../../client/test/seeded.js";
import { ViralAlerts } from "../../client/viral-alerts.js";
import { eventsSocket } from "../../client/viral-alerts-events.js";
import { Restartable, publish } from "../local.mjs";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const CLIENTS = Number(process.env.CLIENTS ?? 200);
const DROPS = Number(process.env.DROPS ?? 10_000);
const REGIONS = ["PL", "DE", "FR", "AE"];
/** Share of clients that are subscribed before the next cut, and chance that a cut hits one that is not. */
const STANDING_MIN = 0.6;
const CUT_EARLY = 0.1;
/** Pause between two alerts in milliseconds, on average. */
const PUBLISH_EVERY = 400;
/** The gateway is killed after these shares of the cuts. */
const KILLED_AT = [0.25, 0.5, 0.75];
/** Bound of the wait for the last alerts, in milliseconds. */
const SETTLE_MAX = 60_000;
const FAULTS = [
  "lost-disconnect=0.3",
  "false-gone=0.01",
  // Lost posts, and duplicates by invocations that are repeated after they have run.
  "dropped-connection=0.005",
  "failed-after-run=0.05",
  "failed-invocation=0.01",
  "throttled-post=0.01",
];
const EVENT_FAULTS = [
  "lost-event=0.05",
  "doubled-event=0.05",
  "late-event=0.05:300ms",
  "reordered-event=0.05",
  "late-subscription=0.1:300ms",
];
/** By the leg: the flags of the local mode, and its faults. */
const LEGS = {
  gateway: { flags: ["--log", "error"], faults: FAULTS },
  events: { flags: ["--log", "error", "--delivery", "both"], faults: [...FAULTS, ...EVENT_FAULTS] },
};

const random = randomOf(SEED);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const pick = (items) => items[Math.floor(random() * items.length)];

/** The sockets of a run. */
class Sockets {
  /** Those that are open, and those that are subscribed. */
  open = new Set();
  standing = new Set();
  /** Number of cuts by the test, by the gateway, or by its death, and how many of them were of the Event API. */
  drops = 0;
  eventDrops = 0;

  /** The class of sockets that are counted here. */
  get WebSocket() {
    const sockets = this;
    return class extends WebSocket {
      #closes = false;

      constructor(url, protocols) {
        super(url, protocols);
        this.once("open", () => sockets.open.add(this));
        this.on("message", (data) => /"(subscribed|subscribe_success)"/.test(data) && sockets.standing.add(this));
        this.once("close", () => {
          sockets.standing.delete(this);
          if (!sockets.open.delete(this) || this.#closes) return;
          sockets.drops++;
          sockets.eventDrops += url.endsWith("/event/realtime");
        });
      }

      close(...args) {
        this.#closes = true;
        super.close(...args);
      }
    };
  }
}

/** Publishes until the service answers with the sequence number. */
async function publishUntilKnown({ local }, heads, region, number) {
  const headers = { "idempotency-key": `${SEED}-${number}` };
  const video = { id: `v${number}`, title: `alert ${number}` };
  for (;;) {
    try {
      const { seq } = await publish(local.address, region, video, headers);
      if (seq) return heads.set(region, Math.max(seq, heads.get(region) ?? 0));
    } catch {
      // The gateway is away.
    }
    await pause(50);
  }
}

/** A client and what it received: the first position of each region, and the sequence numbers since. */
class Application {
  began = new Map();
  told = new Map();
  errors = [];
  cuts = 0;

  constructor({ webSocketAddress, address }, regions, leg, { WebSocket }) {
    this.regions = regions;
    const options = { httpUrl: address, regions, WebSocket, checkMs: 10_000 };
    this.client = new ViralAlerts({
      ...options,
      url: webSocketAddress,
      reconnectWithinMs: 400,
      ...(leg === "events" && { WebSocket: eventsSocket(options) }),
    });
    this.client.addEventListener("subscribed", ({ detail: { positions } }) => {
      for (const [region, { seq }] of Object.entries(positions))
        if (!this.began.has(region)) this.began.set(region, seq);
    });
    this.client.addEventListener("alert", ({ detail: { region, seq, everyone } }) => {
      // Alerts to everyone may be of regions that this client does not follow, or not yet.
      const follows = this.began.has(region) || (this.regions.includes("ALL") && this.began.size);
      if (everyone && !follows) return;
      if (!this.told.has(region)) this.told.set(region, []);
      this.told.get(region).push(seq);
    });
    this.client.addEventListener("gap", ({ detail }) => this.errors.push(detail));
    this.client.addEventListener("error", ({ detail }) => this.errors.push(detail));
  }

  /** Yields what the client should have. A new region is followed from its beginning. */
  *expected(heads) {
    const watched = this.regions.includes("ALL") ? [...heads.keys()] : this.regions;
    for (const region of watched) {
      const began = this.began.get(region) ?? 0;
      yield {
        region,
        numbers: Array.from({ length: (heads.get(region) ?? 0) - began }, (_, index) => began + index + 1),
      };
    }
  }

  hasAll(heads) {
    for (const { region, numbers } of this.expected(heads)) {
      if (numbers.length && (this.told.get(region)?.at(-1) ?? 0) < numbers.at(-1)) return false;
    }
    return true;
  }
}

for (const [leg, { flags, faults }] of Object.entries(LEGS)) {
  const name = `${DROPS} cuts over ${CLIENTS} clients, ${leg}: nothing is lost, nothing is told twice, order is kept`;
  test(name, { timeout: 1_200_000 }, async (t) => {
    console.log(`SEED=${SEED}`);
    const faultFlags = [...faults.flatMap((fault) => ["--fault", fault]), "--fault-seed", String(SEED)];
    const gateway = new Restartable();
    await gateway.start([...flags, ...faultFlags]);
    t.after(() => gateway.end());
    const sockets = new Sockets();
    const { open, standing } = sockets;
    const heads = new Map();
    const applications = Array.from({ length: CLIENTS }, () => {
      const chance = random();
      const regions =
        chance < 0.1 ? ["ALL"] : chance < 0.6 ? [pick(REGIONS)] : [...new Set([pick(REGIONS), pick(REGIONS)])];
      return new Application(gateway.local, regions, leg, sockets);
    });
    t.after(() => applications.forEach(({ client }) => client.close()));

    let published = 0;
    let publishing = true;
    const publisher = (async () => {
      while (publishing) {
        await publishUntilKnown(gateway, heads, pick(REGIONS), ++published);
        await pause(PUBLISH_EVERY * 2 * random());
      }
    })();

    const kills = KILLED_AT.map((share) => share * DROPS);
    let cut = 0;
    while (sockets.drops < DROPS) {
      if (standing.size < CLIENTS * STANDING_MIN) await pause(5);
      if (sockets.drops >= kills[0]) {
        kills.shift();
        await gateway.kill();
        await pause(500 * random());
        await gateway.start([...flags, ...faultFlags]);
        continue;
      }
      const among = standing.size < CLIENTS * STANDING_MIN ? [] : [...(random() < CUT_EARLY ? open : standing)];
      if (!among.length) continue;
      const socket = pick(among);
      socket.terminate();
      // The socket's `close` event comes later.
      standing.delete(socket);
      cut++;
    }
    publishing = false;
    await publisher;
    console.log(`${sockets.drops} cuts, ${cut} of them by this test; ${published} alerts published`);
    // A client that finds no Event API while the gateway is dead uses the WebSocket API until its next connection.
    if (leg === "events") assert.ok(sockets.eventDrops > DROPS / 2, `${sockets.eventDrops} cuts of the Event API`);
    else assert.equal(sockets.eventDrops, 0);

    // Without faults, every client gets what it still misses.
    await gateway.kill();
    await gateway.start(flags);
    for (const region of REGIONS) await publishUntilKnown(gateway, heads, region, ++published);
    const end = Date.now() + SETTLE_MAX;
    while (Date.now() < end && !applications.every((application) => application.hasAll(heads))) await pause(50);

    for (const application of applications) {
      assert.deepEqual(application.errors, []);
      for (const { region, numbers } of application.expected(heads)) {
        assert.deepEqual(
          application.told.get(region) ?? [],
          numbers,
          `${region} of a client that watches ${application.regions}`,
        );
      }
    }
    const told = applications.flatMap((application) => [...application.told.values()].map(({ length }) => length));
    console.log(`${told.reduce((sum, length) => sum + length, 0)} alerts told`);
  });
}
