// Networks without WebSockets, and clients that may not connect.

import { beforeEach, expect, test, vi } from "vitest";
import { iterate } from "../src/viral-alerts-iterate.js";
import { BACK, URL_OF_SERVICE, alertsOf, newStorage, pass, publishUntil, start, until } from "./application.js";
import { EVENTS } from "./appsync.js";
import { Browser } from "./browser.js";
import { appSync, service } from "./current.js";
import { leg, on } from "./legs.js";
import { LATENCY } from "./service.js";

const HTTP = { httpUrl: "https://service.example" };

/** Puts `AbortSignal.timeout` on fake time, which Vitest does not. */
const fakeTimeouts = () =>
  vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), ms);
    return controller.signal;
  });

beforeEach(() => {
  vi.spyOn(Math, "random").mockReturnValue(0.5);
});

test("where no WebSocket opens, alerts come by polling, and by WebSocket as soon as one opens", async () => {
  service.refuses = true;
  const { told, states, subscribed } = start(service, { regions: ["PL", "DE"], ...HTTP });
  await pass(20_000);
  expect(states.at(-1)).toBe("polling");
  expect(subscribed.map(({ region }) => region)).toEqual(["PL", "DE"]);
  publishUntil(service, "PL", 3);
  await pass(5_000);
  expect(told).toEqual(alertsOf("PL", 1, 3));
  publishUntil(service, "PL", 250);
  await pass(5_000);
  expect(told).toEqual(alertsOf("PL", 1, 250));
  service.refuses = false;
  await pass(30_000);
  expect(states.at(-1)).toBe("open");
  const asked = service.requests.length;
  publishUntil(service, "PL", 251);
  await pass(60_000);
  expect(told).toEqual(alertsOf("PL", 1, 251));
  expect(service.requests.length).toBe(asked);
  expect(states).toEqual(["waiting", "connecting", "waiting", "polling", "open"]);
});

test("a region that is watched while the log is fetched is not waited for", async () => {
  service.refuses = true;
  const { subscribed, client } = start(service, { regions: ["PL"], ...HTTP });
  // The first request on the leg of AppSync asks whether there is an Event API.
  await until(() => service.requests.length >= on({ gateway: 1, events: 2 }), 5);
  client.watch("DE");
  await pass(100);
  expect(subscribed.map(({ region }) => region)).toEqual(["PL", "DE"]);
});

test("with a token alerts come by polling, and the token stands in no address of HTTP", async () => {
  service.refuses = true;
  const { told, states } = start(service, {
    regions: ["PL"],
    token: "secret",
    ...HTTP,
  });
  await pass(20_000);
  publishUntil(service, "PL", 1);
  await pass(7_000);
  expect(states.at(-1)).toBe("polling");
  expect(told).toEqual(["PL 1"]);
  expect(service.requests.join()).not.toContain("secret");
  expect(Object.fromEntries(new Headers(vi.mocked(fetch).mock.lastCall![1]!.headers))).toEqual({
    authorization: "Bearer secret",
  });
});

test("a client without a token where the service requires one ends with an error that says so", async () => {
  service.refuses = true;
  service.status = 401;
  service.body = { error: { code: "unauthorized", message: "no token", retryable: false } };
  const { errors, states } = start(service, { regions: ["PL"], ...HTTP });
  await pass(4_100);
  expect(errors).toMatchObject([{ code: "unauthorized", terminal: true }]);
  expect(errors[0]!.message).toBe("token required");
  expect(states.at(-1)).toBe("closed");
});

test("a page that may not read over HTTP is told so once, and reads as soon as it may", async () => {
  vi.stubGlobal("location", new URL("http://localhost:5173/page"));
  service.refuses = service.blocksPages = true;
  const { errors, states } = start(service, { regions: ["PL"], ...HTTP });
  await pass(60_000);
  expect(errors).toMatchObject([{ code: "http", terminal: false }]);
  const message = "cannot read https://service.example: does AllowedOrigins name http://localhost:5173?";
  expect(errors[0]!.message).toBe(message);
  service.blocksPages = false;
  await pass(60_000);
  expect(states.at(-1)).toBe("polling");
  expect(errors.length).toBe(1);
});

test("a page is told so too if only the port of the service differs from its own", async () => {
  vi.stubGlobal("location", new URL("https://service.example/"));
  service.refuses = service.blocksPages = true;
  const { errors } = start(service, { regions: ["PL"], httpUrl: "https://service.example:8443" });
  await pass(60_000);
  expect(errors).toMatchObject([{ code: "http" }]);
});

test.each([
  ["the page is of the same origin", "https://service.example/"],
  ["the client runs outside a page", undefined],
])("AllowedOrigins is not blamed where %s", async (_, page) => {
  vi.stubGlobal("location", page && new URL(page));
  service.refuses = service.blocksPages = true;
  const { errors } = start(service, { regions: ["PL"], ...HTTP });
  await pass(60_000);
  expect(errors).toEqual([]);
  expect(service.requests.length).toBeGreaterThan(3);
});

test.each([401, 403])("%i without a token that is not the service's is a failure like others", async (status) => {
  service.refuses = true;
  service.status = status;
  const { states, errors } = start(service, { regions: ["PL"], ...HTTP });
  await pass(60_000);
  expect(errors).toEqual([]);
  service.status = 200;
  await pass(60_000);
  expect(states.at(-1)).toBe("polling");
});

test("more regions than fit in a request are polled in several", async () => {
  service.refuses = true;
  const regions = Array.from({ length: 30 }, (_, index) => `R-${index}`);
  const { told, states } = start(service, { regions, ...HTTP });
  await pass(20_000);
  publishUntil(service, "R-0", 1);
  publishUntil(service, "R-29", 1);
  await pass(7_000);
  expect(told).toEqual(["R-0 1", "R-29 1"]);
  expect(states.at(-1)).toBe("polling");
});

test("a client that is closed while it fetches is told nothing more", async () => {
  const { told, states, client } = start(service, { regions: ["PL"], ...HTTP });
  await pass(100);
  service.cut();
  publishUntil(service, "PL", 450);
  await until(() => told.length > 0, 5);
  const before = told.length;
  client.close();
  await pass(60_000);
  expect(told.length).toBe(before);
  expect(states.at(-1)).toBe("closed");
});

test("a region that is watched meanwhile begins at once, and history is not shown", async () => {
  publishUntil(service, "DE", 2);
  service.refuses = true;
  const { told, client } = start(service, { regions: ["PL"], ...HTTP });
  await pass(20_000);
  client.watch("DE");
  await pass(100);
  publishUntil(service, "DE", 3);
  await pass(5_000);
  expect(told).toEqual(["DE 3"]);
});

test("ALL comes by polling too", async () => {
  publishUntil(service, "DE", 2);
  service.refuses = true;
  const { told } = start(service, { regions: ["ALL"], ...HTTP });
  await pass(20_000);
  publishUntil(service, "DE", 3);
  publishUntil(service, "NEW", 2);
  await pass(5_000);
  expect(told).toEqual(["DE 3", "NEW 1", "NEW 2"]);
});

test("ALL that is watched later, while polling, is told nothing from before either", async () => {
  // More than an answer has place for.
  for (const region of ["AA", "BB", "CC"]) publishUntil(service, region, 60);
  service.refuses = true;
  const { client, told } = start(service, { regions: ["PL"], ...HTTP });
  await pass(20_000);
  client.watch("ALL");
  await pass(20_000);
  for (const region of ["AA", "BB", "CC", "PL"]) service.publish(region);
  await pass(7_000);
  expect(told.sort()).toEqual(["AA 61", "BB 61", "CC 61", "PL 1"]);
});

test("ALL comes by polling when there was no alert at all", async () => {
  service.refuses = true;
  const { told } = start(service, { regions: ["ALL"], ...HTTP });
  await pass(20_000);
  publishUntil(service, "NEW", 2);
  await pass(5_000);
  publishUntil(service, "NEW", 3);
  await pass(5_000);
  expect(told).toEqual(["NEW 1", "NEW 2", "NEW 3"]);
});

test("ALL comes by polling with more regions than fit in a cursor", async () => {
  const { told, states } = start(service, { regions: ["ALL"], ...HTTP });
  await pass(100);
  const regions = Array.from({ length: 310 }, (_, index) => `R-${index}`);
  for (const region of regions) service.publish(region);
  await pass(100);
  service.refuses = true;
  service.cut();
  await pass(14_000 + BACK);
  publishUntil(service, "R-100", 2);
  await pass(7_000);
  expect(told.at(-1)).toBe("R-100 2");
  expect(states.at(-1)).toBe("polling");
  for (const { searchParams } of service.requests) {
    const after = searchParams.get("after") ?? "";
    expect(after.length).toBeLessThanOrEqual(4_096);
    expect(after).toMatch(/^(R-\d+\.mwm0nk74\.\d_?)*$/);
  }
});

test("polling that fails waits longer each time", async () => {
  service.refuses = true;
  service.status = 0;
  const { states } = start(service, { regions: ["PL"], ...HTTP });
  await pass(10 * 60_000);
  expect(states).not.toContain("polling");
  // Each attempt asks for the Event API first, while nobody has told of it.
  expect(service.requests.length).toBeLessThan(on({ gateway: 50, events: 100 }));
  service.status = 200;
  await pass(30_000);
  expect(states.at(-1)).toBe("polling");
});

test("without an HTTP address there is no fallback", async () => {
  service.refuses = true;
  const { states } = start(service, { regions: ["PL"], httpUrl: undefined });
  await pass(120_000);
  expect(states).not.toContain("polling");
  expect(service.said).toEqual(on({ gateway: [], events: ["GET PL"] }));
});

test("a token is asked for anew for every connection, and goes beside the subprotocol", async () => {
  let tokens = 0;
  const { told } = start(service, { regions: ["PL"], token: () => Promise.resolve(`t.${++tokens}-_`), ...HTTP });
  await pass(100);
  const before = tokens;
  service.cut();
  publishUntil(service, "PL", 1);
  await pass(BACK);
  expect(told).toEqual(["PL 1"]);
  expect(service.handshakes).toEqual(Array(2).fill(on({ gateway: URL_OF_SERVICE, events: EVENTS.url })));
  if (leg === "gateway") {
    expect(service.offers).toEqual([
      ["viral-alerts", "bearer.t.1-_"],
      ["viral-alerts", "bearer.t.2-_"],
    ]);
  } else {
    // The client asks for a token, then the leg for the request before the first handshake, and for each handshake.
    const sent = appSync.handshakes.map(({ Authorization }) => Authorization);
    expect(sent).toEqual(["t.3-_", `t.${before + 2}-_`]);
  }
});

test("without a token none is sent, and AppSync gets a word that is none", async () => {
  start(service, { regions: ["PL"], token: () => "" });
  start(service, { regions: ["PL"] });
  await pass(100);
  if (leg === "gateway") expect(service.offers).toEqual([[], []]);
  else expect(appSync.handshakes).toEqual(Array(2).fill({ host: EVENTS.host, Authorization: "anonymous" }));
});

const INVALID = ["a b", "a/b", "a,b", "a\n", "ą", '"a"'];
test.each(INVALID)("a token that no subprotocol can carry is an error that does not show it: %j", async (token) => {
  const { errors } = start(service, { regions: ["PL"], token, httpUrl: undefined });
  await pass(100);
  expect(service.handshakes).toEqual([]);
  expect(errors).toMatchObject([{ code: "connect", terminal: false }]);
  expect(errors[0]!.message).toMatch(/invalid token/);
  expect(errors[0]!.message).not.toContain(token);
});

test.each([
  [
    "fetched from a server that is away",
    () => Promise.reject(TypeError("Failed to fetch")),
    "TypeError: Failed to fetch",
  ],
  ["a text that no header can carry", () => "ą", "invalid token"],
])("HTTP is not blamed for a token: %s", async (_, token, message) => {
  const { errors, states } = start(service, { regions: ["PL"], token, ...HTTP });
  await pass(60_000);
  expect(new Set(errors.map(({ code }) => code))).toEqual(new Set(["connect"]));
  expect(errors.map((error) => error.message)).toContain(message);
  expect(fetch).not.toHaveBeenCalled();
  expect(states.at(-1)).toBe("waiting");
});

test("a token that fails for what was missed alone is told, and asked for again", async () => {
  let calls = 0;
  // Of the second connection, one for the handshake, and then the first page. The Event API asks for each.
  let failing = Infinity;
  const token = (): Promise<string> =>
    ++calls === failing ? Promise.reject(Error("signed out")) : Promise.resolve("t");
  const { errors, told } = start(service, { regions: ["PL"], token, ...HTTP });
  await pass(100);
  failing = calls + on({ gateway: 2, events: 4 });
  service.cut();
  publishUntil(service, "PL", 500);
  await pass(BACK + 60_000);
  expect(errors).toMatchObject([{ code: "connect", message: "Error: signed out" }]);
  expect(told).toEqual(alertsOf("PL", 1, 500));
});

test.each([
  ["a connection", false, 1, "open"],
  ["HTTP too", true, 2, "polling"],
])(
  "a token that never comes is given up after 15 s and asked for again, for %s",
  async (_, refuses, hanging, state) => {
    service.refuses = refuses;
    let calls = 0;
    const token = (): Promise<string> => (++calls <= hanging ? new Promise(() => {}) : Promise.resolve("t"));
    fakeTimeouts();
    const { errors, states } = start(service, { regions: ["PL"], token, ...(refuses && HTTP) });
    await pass(14_900);
    expect(errors).toEqual([]);
    await pass(30_000);
    const error = { code: "connect", message: "no token in time", terminal: false };
    expect(errors).toMatchObject(Array(hanging).fill(error));
    expect(states.at(-1)).toBe(state);
  },
);

test("a token that comes too late for a client that is closed tells nothing", async () => {
  const { client, errors } = start(service, { regions: ["PL"], token: () => new Promise(() => {}), ...HTTP });
  await pass(5_000);
  client.close();
  await pass(60_000);
  expect(errors).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});

test("a token that is refused ends the client with a typed error", async () => {
  service.refuses = true;
  service.status = 401;
  const { client, states, errors } = start(service, { regions: ["PL"], token: "old", ...HTTP });
  const iteration = iterate(client).next();
  const ended = expect(iteration).rejects.toMatchObject({
    name: "ViralAlertsError",
    code: "unauthorized",
    terminal: true,
  });
  await pass(1_000);
  expect(errors).toMatchObject([{ code: "unauthorized", message: "token refused", terminal: true }]);
  expect(states.at(-1)).toBe("closed");
  await ended;
  expect(Object.fromEntries(new Headers(vi.mocked(fetch).mock.lastCall![1]!.headers))).toEqual({
    authorization: "Bearer old",
  });
  await pass(60_000);
  expect(service.handshakes.length).toBe(1);
});

test.each([
  ["the token callback", () => Promise.reject(Object.assign(Error("HTTP 401 from the login page"), { status: 401 }))],
  ["a portal that answers in its own words", () => "t"],
])("a failure that mentions 401 and is none of the service is a failure like others: %s", async (_, token) => {
  service.refuses = true;
  vi.mocked(fetch).mockImplementation(() => Promise.resolve(new Response("Error 401: log in to this network")));
  const { errors, states } = start(service, { regions: ["PL"], token, ...HTTP });
  await pass(60_000);
  expect(errors.filter(({ terminal }) => terminal)).toEqual([]);
  expect(vi.mocked(fetch).mock.calls.length > 0 || errors.length > 0).toBe(true);
  expect(states.at(-1)).toBe("waiting");
});

test("a token that is refused ends a client that watches nothing", async () => {
  service.refuses = true;
  service.status = 401;
  const { errors } = start(service, { token: "old", ...HTTP });
  await pass(1_000);
  expect(errors).toMatchObject([{ code: "unauthorized" }]);
});

test("a token that is refused while what was missed is fetched ends the client", async () => {
  const { errors, states } = start(service, { regions: ["PL"], token: "old", ...HTTP });
  await pass(100);
  service.cut();
  publishUntil(service, "PL", 500);
  service.status = 401;
  await pass(BACK + 4_000);
  expect(errors).toMatchObject([{ code: "unauthorized", terminal: true }]);
  expect(states.at(-1)).toBe("closed");
});

test("a token that is refused one region is still good for others", async () => {
  service.refuses = true;
  service.status = 403;
  const { client, errors, told } = start(service, { token: "for-PL", ...HTTP });
  await pass(2_000);
  service.refuses = false;
  client.watch("PL");
  await pass(60_000);
  service.publish("PL");
  await pass(100);
  expect(told).toEqual(["PL 1"]);
  expect(errors).toEqual([]);
});

test("a region that is left while it is polled begins anew when it is watched again", async () => {
  service.refuses = true;
  const { client, told } = start(service, { regions: ["DE", "PL"], ...HTTP });
  await pass(20_000);
  for (const { length } = service.requests; service.requests.length === length;) await pass(1);
  client.unwatch("PL");
  await pass(60_000);
  publishUntil(service, "PL", 3);
  await pass(60_000);
  client.watch("PL");
  await pass(10_000);
  expect(told).toEqual([]);
});

const UPGRADES = ["refused", "hanging"];
test.each(UPGRADES)("alerts come over HTTP 3 to 4 s after an upgrade that is %s, and attempts go on", async (kind) => {
  service.refuses = kind === "refused";
  service.silent = kind === "hanging";
  for (const [random, ms] of [
    [0, 4_000],
    // The greatest number that is drawn.
    [1 - Number.EPSILON, 3_000],
  ] as const) {
    vi.mocked(Math.random).mockReturnValue(random);
    const { told, states, client } = start(service, { regions: ["PL"], ...HTTP });
    await pass(ms - 1);
    expect(states).not.toContain("polling");
    await pass(1 + 2 * LATENCY);
    expect(states.at(-1)).toBe("polling");
    const { seq } = service.publish("PL");
    const attempts = service.handshakes.length;
    await pass(30_000);
    expect(told).toEqual([`PL ${seq}`]);
    expect(service.handshakes.length).toBeGreaterThan(attempts);
    client.close();
  }
});

test("an upgrade that hangs where a connection has just ended is not waited for either", async () => {
  const { states } = start(service, { regions: ["PL"], rotateAfterMs: 60_000, ...HTTP });
  await pass(59_000);
  const [old] = service.sockets;
  service.silent = true;
  await pass(2_000);
  expect(service.handshakes.length).toBe(2);
  old!.ends();
  await pass(4_000);
  expect(states.at(-1)).toBe("polling");
});

test("an attempt that fails and another that succeeds soon are no reason for the fallback", async () => {
  const { states } = start(service, { regions: ["PL"], reconnectWithinMs: 1_000, ...HTTP });
  for (let time = 0; time < 4; time++) {
    await pass(1_000);
    service.refuses = true;
    service.cut();
    await until(() => states.at(-1) === "connecting");
    await pass(20);
    service.refuses = false;
    await pass(40_000);
  }
  expect(states).not.toContain("polling");
  if (leg === "gateway") expect(service.requests).toEqual([]);
});

test("that WebSockets failed is remembered for the next page, and forgotten when one opens", async () => {
  const storage = newStorage();
  const visit = async (ms: number): Promise<string[]> => {
    const { states, client } = start(service, { regions: ["PL"], storage, ...HTTP });
    await pass(ms);
    client.close();
    return states.slice(0, -1);
  };
  service.refuses = true;
  expect((await visit(5_000)).at(-1)).toBe("polling");
  const attempts = service.handshakes.length;
  expect(await visit(100)).toContain("polling");
  expect(service.handshakes.length).toBe(attempts + 1);
  service.refuses = false;
  expect((await visit(100)).at(-1)).toBe("open");
  service.refuses = true;
  expect(await visit(2_500)).not.toContain("polling");
});

test("where a page cannot store anything, that WebSockets failed is known while it lives", async () => {
  const browser = new Browser();
  service.refuses = true;
  const { states } = start(service, { regions: ["PL"], ...HTTP });
  await pass(5_000);
  expect(states.at(-1)).toBe("polling");
  browser.happens("offline");
  browser.happens("online");
  await pass(100);
  expect(states.slice(-3)).toEqual(["offline", "connecting", "polling"]);
});

test("a network that lets WebSockets open and nothing pass is fallen back from too", async () => {
  service.hangsUp = true;
  const { told, states } = start(service, { regions: ["PL"], ...HTTP });
  await pass(20_000);
  publishUntil(service, "PL", 1);
  await pass(6_000);
  expect(states.at(-1)).toBe("polling");
  expect(told).toEqual(["PL 1"]);
});

test("where there is no WebSocket at all alerts come by polling", async () => {
  const WebSocket = class {
    constructor() {
      throw new DOMException("insecure", "SecurityError");
    }
  };
  const { states, errors } = start(service, { regions: ["PL"], WebSocket: WebSocket as never, ...HTTP });
  await pass(30_000);
  expect(states.at(-1)).toBe("polling");
  expect(errors[0]).toMatchObject({ code: "connect", terminal: false });
});

// A rejection that nobody handles ends Node.js, and fails this run.
test("a token callback that always throws is an event each time, and the process goes on", async () => {
  const timeout = fakeTimeouts();
  const token = (): string => {
    throw new Error("not signed in yet");
  };
  const { errors, states } = start(service, { regions: ["PL"], token, ...HTTP });
  await pass(60_000);
  expect(new Set(errors.map(({ message }) => message))).toEqual(new Set(["Error: not signed in yet"]));
  expect(states.at(-1)).toBe("waiting");
  // No wait is timed that has ended already.
  expect(timeout).not.toHaveBeenCalled();
});

test("a token callback that throws is an event, and is called again", async () => {
  let calls = 0;
  const token = (): string => {
    if (++calls === 1) throw new Error("not signed in yet");
    return "t";
  };
  const { errors, states } = start(service, { regions: ["PL"], token });
  await pass(10_000);
  expect(errors).toMatchObject([{ code: "connect", message: "Error: not signed in yet", terminal: false }]);
  expect(states.at(-1)).toBe("open");
});
