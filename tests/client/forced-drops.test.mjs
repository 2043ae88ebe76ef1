// The built client in Node.js against the local mode with faults. Connections are cut 10,000 times while alerts are
// published, and the gateway is killed three times. Every client has to get every alert of its regions once, in order.
//
//   npm test                                       a run with a seed of its own, which it prints
//   SEED=1234 CLIENTS=200 DROPS=10000 npm test     the same run again, as far as two processes allow

import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { randomOf } from "../../client/test/seeded.js";
import { ViralAlerts } from "../../client/viral-alerts.js";
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
const FLAGS = ["--log", "error"];
const FAULT_FLAGS = [...FAULTS.flatMap((fault) => ["--fault", fault]), "--fault-seed", String(SEED)];

const random = randomOf(SEED);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const pick = (items) => items[Math.floor(random() * items.length)];

/** Open sockets, subscribed sockets, and the number of cuts by this test, by the gateway, or by its death. */
const open = new Set();
const standing = new Set();
let drops = 0;

class CountedSocket extends WebSocket {
  #closes = false;

  constructor(url) {
    super(url);
    this.once("open", () => open.add(this));
    this.on("message", (data) => String(data).includes('"subscribed"') && standing.add(this));
    this.once("close", () => {
      standing.delete(this);
      if (open.delete(this) && !this.#closes) drops++;
    });
  }

  close(...args) {
    this.#closes = true;
    super.close(...args);
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

  constructor({ webSocketAddress, address }, regions) {
    this.regions = regions;
    this.client = new ViralAlerts({
      url: webSocketAddress,
      httpUrl: address,
      regions,
      WebSocket: CountedSocket,
      reconnectWithinMs: 400,
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

test(
  `${DROPS} cuts over ${CLIENTS} clients: nothing is lost, nothing is told twice, order is kept`,
  { timeout: 1_200_000 },
  async (t) => {
    console.log(`SEED=${SEED}`);
    const gateway = new Restartable();
    await gateway.start([...FLAGS, ...FAULT_FLAGS]);
    t.after(() => gateway.end());
    const heads = new Map();
    const applications = Array.from({ length: CLIENTS }, () => {
      const chance = random();
      const regions =
        chance < 0.1 ? ["ALL"] : chance < 0.6 ? [pick(REGIONS)] : [...new Set([pick(REGIONS), pick(REGIONS)])];
      return new Application(gateway.local, regions);
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
    while (drops < DROPS) {
      if (standing.size < CLIENTS * STANDING_MIN) await pause(5);
      if (drops >= kills[0]) {
        kills.shift();
        await gateway.kill();
        await pause(500 * random());
        await gateway.start([...FLAGS, ...FAULT_FLAGS]);
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
    console.log(`${drops} cuts, ${cut} of them by this test; ${published} alerts published`);

    // Without faults, every client gets what it still misses.
    await gateway.kill();
    await gateway.start(FLAGS);
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
  },
);
