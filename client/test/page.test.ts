// The life of a page, and several tabs of a browser.

import { beforeEach, expect, test, vi } from "vitest";
import { Browser } from "./browser.js";
import { BACK, ONE_CHECK, SETTLED, alertsOf, pass, publishUntil, start, newStorage } from "./application.js";
import { service } from "./current.js";
import { on } from "./legs.js";

const MINUTE = 60_000;

let browser: Browser;
beforeEach(() => {
  browser = new Browser();
});

test("offline ends the connection, and online opens one at once", async () => {
  const { told, states } = start(service, { regions: ["PL"] });
  await pass(100);
  // Attempts go on at random moments, also at once.
  vi.mocked(Math.random).mockReturnValue(0.5);
  browser.happens("offline");
  publishUntil(service, "PL", 2);
  await pass(20);
  expect(service.sockets.size).toBe(0);
  expect(states).toEqual(["open", "offline"]);
  browser.happens("online");
  await pass(100);
  expect(told).toEqual(["PL 1", "PL 2"]);
  expect(states.at(-1)).toBe("open");
});

test("a page that is hidden for a while gives its connection up, and resumes when it is shown", async () => {
  const { told, states } = start(service, { regions: ["PL"] });
  await pass(100);
  browser.hide();
  await pass(4 * MINUTE);
  browser.show();
  await pass(2 * MINUTE);
  expect(states).toEqual(["open"]);
  browser.hide();
  await pass(5 * MINUTE);
  expect(states.at(-1)).toBe("paused");
  expect(service.sockets.size).toBe(0);
  publishUntil(service, "PL", 3);
  await pass(60 * MINUTE);
  expect(service.handshakes.length).toBe(1);
  browser.show();
  await pass(100);
  expect(told).toEqual(alertsOf("PL", 1, 3));
});

test("with hiddenMs Infinity a hidden page stays connected", async () => {
  start(service, { regions: ["PL"], hiddenMs: Infinity });
  await pass(100);
  browser.hide();
  await pass(60 * MINUTE);
  expect(service.sockets.size).toBe(1);
});

test("a page that is looked at again makes sure that its connection lives", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  browser.hide();
  // AppSync has sent its `ka` half a minute ago.
  await pass(95_000);
  service.silent = true;
  service.publish("PL");
  browser.show();
  await pass(1_000);
  service.silent = false;
  await pass(14_000 + BACK);
  expect(told).toEqual(["PL 1"]);
  expect(service.handshakes.length).toBe(2);
});

test("a tab that is looked at again makes sure that the connection of the leading one lives", async () => {
  start(service, { regions: ["PL"] });
  browser.hide();
  const page = browser.open();
  page.hide();
  const { told } = start(service, { regions: ["PL"] });
  // AppSync has sent its `ka` half a minute ago.
  await pass(95_000);
  service.silent = true;
  service.publish("PL");
  page.show();
  await pass(1_000);
  service.silent = false;
  await pass(14_000 + BACK);
  expect(told).toEqual(["PL 1"]);
  expect(service.handshakes.length).toBe(2);
});

test("a page that is looked at now and then has its subscriptions repaired", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(100);
  await pass(SETTLED);
  service.loseSubscriptions();
  publishUntil(service, "PL", 1);
  for (let passed = 0; passed < ONE_CHECK; passed += 4 * MINUTE) {
    browser.hide();
    await pass(1_000);
    browser.show();
    await pass(4 * MINUTE);
  }
  expect(told).toEqual(["PL 1"]);
  publishUntil(service, "PL", 2);
  await pass(100);
  expect(told).toEqual(["PL 1", "PL 2"]);
});

test("a look makes sure of the connection though the clock was set back", async () => {
  const { told } = start(service, { regions: ["PL"] });
  await pass(95_000);
  vi.setSystemTime(Date.now() - 60 * MINUTE);
  service.silent = true;
  service.publish("PL");
  browser.hide();
  browser.show();
  await pass(1_000);
  service.silent = false;
  await pass(14_000 + BACK);
  expect(told).toEqual(["PL 1"]);
  expect(service.handshakes.length).toBe(2);
});

test("a look soon after a frame sends nothing", async () => {
  start(service, { regions: ["PL"] });
  await pass(20_000);
  const { length } = service.said;
  browser.hide();
  browser.show();
  await pass(1_000);
  expect(service.said.length).toBe(length);
});

test("a network that comes and goes does not bring back a page that nobody looks at", async () => {
  const { states } = start(service, { regions: ["PL"] });
  await pass(100);
  browser.hide();
  await pass(6 * MINUTE);
  const { length } = service.said;
  for (const _ of Array(5)) {
    browser.happens("offline");
    await pass(1_000);
    browser.happens("online");
    await pass(4 * MINUTE);
  }
  expect(states.at(-1)).toBe("paused");
  expect(service.said.length).toBe(length);
  browser.show();
  await pass(100);
  expect(states.at(-1)).toBe("open");
});

test("a tab that watches before it has its lock is not taken for one that is gone", async () => {
  start(service, { regions: ["PL"] });
  await pass(100);
  // The lock of the new tab is granted after its first message could have arrived.
  browser.lockDelay = 50;
  const { client, told } = start(service, {});
  client.watch("DE");
  await pass(1_000);
  service.publish("DE");
  await pass(100);
  expect(told).toEqual(["DE 1"]);
});

test("the leading tab keeps no lock of a tab that is gone", async () => {
  start(service, { regions: ["PL"] });
  await pass(100);
  for (const _ of Array(3)) {
    const { client } = start(service, { regions: ["PL"] });
    await pass(100);
    client.close();
    await pass(100);
  }
  expect(browser.locksHeld).toBe(2);
});

test("positions of an earlier page that watched ALL are not those of other tabs", async () => {
  publishUntil(service, "AA", 1);
  const storage = newStorage();
  const earlier = start(service, { regions: ["ALL"], storage });
  await pass(100);
  earlier.client.close();
  await pass(100);
  publishUntil(service, "DE", 20);
  const { told } = start(service, { regions: ["DE"] });
  start(service, { regions: ["AA"], storage });
  await pass(5_000);
  publishUntil(service, "DE", 21);
  await pass(1_000);
  expect(told).toEqual(["DE 21"]);
});

test.each([
  ["freeze", "resume"],
  ["pagehide", "pageshow"],
])("%s gives the connection up at once, and %s resumes", async (ends, begins) => {
  const target = ends === "freeze" ? browser.document : browser.page;
  const { told, states } = start(service, { regions: ["PL"] });
  await pass(100);
  target.dispatchEvent(new Event(ends));
  expect(service.sockets.size).toBe(0);
  publishUntil(service, "PL", 2);
  await pass(MINUTE);
  target.dispatchEvent(new Event(begins));
  await pass(100);
  expect(told).toEqual(["PL 1", "PL 2"]);
  expect(states).toEqual(["open", "paused", "connecting", "open"]);
});

test("a page that is hidden sends nothing because of that", async () => {
  start(service, { regions: ["PL"] });
  await pass(MINUTE);
  const { length } = service.said;
  browser.hide();
  await pass(100);
  expect(service.said.length).toBe(length);
});

test("online while a token is waited for opens one connection", async () => {
  const token = (): Promise<string> => new Promise((resolve) => setTimeout(() => resolve("t"), 1_000));
  start(service, { regions: ["PL"], token });
  await pass(500);
  browser.happens("online");
  // To the Event API a token goes three times before the handshake is over.
  await pass(5_000);
  expect(service.handshakes.length).toBe(1);
});

test("a closed client does not come back with the page", async () => {
  const { client } = start(service, { regions: ["PL"] });
  await pass(100);
  client.close();
  browser.happens("pageshow");
  await pass(MINUTE);
  expect(service.sockets.size).toBe(0);
});

test.each([false, true])(
  "a client that is closed in the tick that made it leaves nothing, locks that are granted late: %s",
  async (grantsLate) => {
    browser.grantsLate = grantsLate;
    for (let time = 0; time < 10; time++) start(service, { regions: ["PL"] }).client.close();
    await pass(MINUTE);
    expect([service.handshakes.length, browser.locksHeld]).toEqual([0, 0]);
    // As React does in its strict mode.
    start(service, { regions: ["PL"] }).client.close();
    const { states } = start(service, { regions: ["PL"] });
    await pass(MINUTE);
    expect([service.handshakes.length, service.sockets.size]).toEqual([1, 1]);
    expect(states).toEqual(["open"]);
  },
);

test("tabs share one connection, and each has every alert of its regions once", async () => {
  const first = start(service, { regions: ["PL"] });
  const second = start(service, { regions: ["PL", "DE"] });
  await pass(100);
  const third = start(service, { regions: ["DE"] });
  await pass(100);
  publishUntil(service, "PL", 2);
  publishUntil(service, "DE", 1);
  await pass(100);
  expect(first.told).toEqual(["PL 1", "PL 2"]);
  expect([...second.told].sort()).toEqual(["DE 1", "PL 1", "PL 2"]);
  expect(third.told).toEqual(["DE 1"]);
  expect(service.handshakes.length).toBe(1);
  expect(second.subscribed.map(({ region }) => region)).toEqual(["PL", "DE"]);
  expect(third.states).toEqual(["open"]);
});

test("a region without a log begins with its first alert, also where another tab follows ALL", async () => {
  start(service, { regions: ["ALL"] });
  const second = start(service, { regions: ["XX"] });
  await pass(100);
  publishUntil(service, "XX", 2);
  await pass(100);
  expect(second.told).toEqual(["XX 1", "XX 2"]);
});

test("a region that is watched beside ALL and stays when ALL is left loses nothing", async () => {
  const { told, client } = start(service, { regions: ["ALL"] });
  await pass(100);
  browser.hide();
  browser.document.dispatchEvent(new Event("freeze"));
  publishUntil(service, "NEW", 2);
  client.watch("NEW");
  client.unwatch("ALL");
  browser.document.dispatchEvent(new Event("resume"));
  await pass(100);
  expect(told).toEqual(["NEW 1", "NEW 2"]);
});

test("a tab that comes back to ALL has the regions that came into being meanwhile", async () => {
  const storage = newStorage();
  const first = start(service, { regions: ["ALL"] });
  const second = start(service, { regions: ["ALL"], storage });
  await pass(100);
  publishUntil(service, "PL", 1);
  await pass(100);
  second.client.close();
  publishUntil(service, "NEW", 3);
  await pass(100);
  const again = start(service, { regions: ["ALL"], storage });
  await pass(100);
  expect(again.told).toEqual(alertsOf("NEW", 1, 3));
  publishUntil(service, "NEW", 4);
  await pass(100);
  expect(again.told).toEqual(alertsOf("NEW", 1, 4));
  expect(first.told).toEqual(["PL 1", ...alertsOf("NEW", 1, 4)]);
});

test("when the leading tab closes another one takes over, and nothing is lost or repeated", async () => {
  const tabs = Array.from({ length: 3 }, () => start(service, { regions: ["PL"] }));
  await pass(100);
  publishUntil(service, "PL", 2);
  await pass(100);
  tabs[0]!.client.close();
  publishUntil(service, "PL", 4);
  await pass(200);
  publishUntil(service, "PL", 5);
  await pass(100);
  expect(tabs.map(({ told }) => told)).toEqual([alertsOf("PL", 1, 2), alertsOf("PL", 1, 5), alertsOf("PL", 1, 5)]);
  expect(service.handshakes.length).toBe(2);
  expect(service.sockets.size).toBe(1);
});

test("the tabs that stay tell a new leader what they watch", async () => {
  const first = start(service, { regions: ["PL"] });
  start(service, { regions: ["DE"] });
  const third = start(service, { regions: ["FR"] });
  await pass(100);
  first.client.close();
  await pass(200);
  publishUntil(service, "FR", 1);
  await pass(100);
  expect(third.told).toEqual(["FR 1"]);
});

test("a tab that misses what the leader tells asks for it", async () => {
  start(service, { regions: ["PL"] });
  const second = start(service, { regions: ["PL"] });
  await pass(100);
  browser.deaf = true;
  publishUntil(service, "PL", 2);
  await pass(100);
  browser.deaf = false;
  publishUntil(service, "PL", 3);
  await pass(100);
  expect(second.told).toEqual(["PL 1", "PL 2", "PL 3"]);
});

test("regions that only a closed tab watched are left", async () => {
  start(service, { regions: ["PL"] });
  const other = start(service, { regions: ["DE"] });
  await pass(100);
  other.client.close();
  await pass(100);
  expect(service.said.at(-1)).toBe(on({ gateway: "unsubscribe_region DE", events: "unsubscribe DE" }));
});

test("a tab that comes with an older position gets what it has missed, and the others nothing twice", async () => {
  const storage = newStorage();
  const first = start(service, { regions: ["PL"] });
  const second = start(service, { regions: ["PL"], storage });
  await pass(100);
  publishUntil(service, "PL", 1);
  await pass(100);
  second.client.close();
  publishUntil(service, "PL", 4);
  await pass(100);
  const again = start(service, { regions: ["PL"], storage });
  await pass(100);
  publishUntil(service, "PL", 5);
  await pass(100);
  expect(again.told).toEqual(alertsOf("PL", 2, 5));
  expect(first.told).toEqual(alertsOf("PL", 1, 5));
  expect(service.handshakes.length).toBe(1);
});

test("what a tab cannot have any more is a gap for that tab alone", async () => {
  const storage = newStorage();
  const first = start(service, { regions: ["PL"] });
  const second = start(service, { regions: ["PL"], storage });
  await pass(100);
  publishUntil(service, "PL", 1);
  await pass(100);
  second.client.close();
  publishUntil(service, "PL", 400);
  await pass(100);
  service.forget("PL", 0);
  const again = start(service, { regions: ["PL"], storage });
  await pass(100);
  publishUntil(service, "PL", 401);
  await pass(100);
  expect(again.told).toEqual(["PL gap 2-400", "PL 401"]);
  expect(first.told).toEqual(alertsOf("PL", 1, 401));
});

test("a refused token closes every tab", async () => {
  service.refuses = true;
  service.status = 401;
  const options = { regions: ["PL"], token: "old", httpUrl: "https://service.example" };
  const tabs = [start(service, options), start(service, options)];
  await pass(1_000);
  expect(tabs.map(({ client }) => client.state.state)).toEqual(["closed", "closed"]);
  expect(tabs.map(({ errors }) => errors.length)).toEqual([1, 1]);
});

test("tabs of different users do not share, and sharing can be refused", async () => {
  start(service, { regions: ["PL"], share: "anna" });
  start(service, { regions: ["PL"], share: "bert" });
  start(service, { regions: ["PL"], share: false });
  await pass(100);
  expect(service.sockets.size).toBe(3);
});

test("where locks are refused each tab has a connection", async () => {
  browser.refusesLocks = true;
  const tabs = [start(service, { regions: ["PL"] }), start(service, { regions: ["DE"] })];
  await pass(100);
  publishUntil(service, "PL", 1);
  publishUntil(service, "DE", 1);
  await pass(100);
  expect(tabs.map(({ told }) => told)).toEqual([["PL 1"], ["DE 1"]]);
  expect(service.sockets.size).toBe(2);
  tabs[0]!.client.close();
  await pass(100);
  expect(service.sockets.size).toBe(1);
});

test("where there may be no channel each tab has a connection", async () => {
  vi.stubGlobal(
    "BroadcastChannel",
    class {
      constructor() {
        throw new DOMException("denied", "SecurityError");
      }
    },
  );
  start(service, { regions: ["PL"] });
  start(service, { regions: ["PL"] });
  await pass(100);
  expect(service.sockets.size).toBe(2);
});

test("without Web Locks each tab has a connection", async () => {
  vi.stubGlobal("navigator", {});
  start(service, { regions: ["PL"] });
  start(service, { regions: ["PL"] });
  await pass(100);
  expect(service.sockets.size).toBe(2);
});

test("a leading tab that is frozen hands over, and catches up when it runs again", async () => {
  const first = start(service, { regions: ["PL"] });
  await pass(100);
  browser.document.dispatchEvent(new Event("freeze"));
  const second = start(service, { regions: ["PL"] });
  await pass(100);
  publishUntil(service, "PL", 2);
  await pass(100);
  browser.document.dispatchEvent(new Event("resume"));
  await pass(100);
  publishUntil(service, "PL", 3);
  await pass(100);
  expect(first.told).toEqual(alertsOf("PL", 1, 3));
  expect(second.told).toEqual(alertsOf("PL", 1, 3));
  expect(service.handshakes.length).toBe(2);
});
