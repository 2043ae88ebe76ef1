// An application around the client, which records its events in short.

import { expect, onTestFinished, vi } from "vitest";
import { eventsSocket, type EventsOptions } from "../src/viral-alerts-events.js";
import { ViralAlerts, type EventMap, type Options } from "../src/viral-alerts.js";
import { leg, on } from "./legs.js";
import type { Service } from "./service.js";

export const URL_OF_SERVICE = "wss://service.example/prod";
const HTTP = { httpUrl: "https://service.example/" };

export interface Application {
  client: ViralAlerts;
  /** Alerts as `PL 1`, gaps as `PL gap 2-3`, in the order of their events. */
  told: string[];
  states: string[];
  errors: EventMap["error"]["detail"][];
  subscribed: EventMap["subscribed"]["detail"][];
}

const MINUTE = 60_000;
/** Longest time until a client is back whose connection has ended, if the first attempt succeeds. */
export const BACK = on({ gateway: 6_000, events: 61_000 });
/** After this time a new client says nothing more until its first check. */
export const SETTLED = on({ gateway: 1_000, events: 11_000 });
/** Time within which a client has checked once, and not twice, what it has missed, with all that follows from it. */
export const ONE_CHECK = on({ gateway: 9.6 * MINUTE, events: 38 * MINUTE });

/** Options of a client, and of the Event API if that is the leg. */
export type Given = Partial<Options & Pick<EventsOptions, "checkMs">>;

/** Returns the options with which a client uses the leg that the test runs on. */
export function onLeg(options: Given): Partial<Options> {
  if (leg === "gateway") return options;
  const given = { ...HTTP, ...options };
  // A client that is to have no fallback has no `httpUrl`. The leg needs one.
  const WebSocket = eventsSocket({ ...given, httpUrl: given.httpUrl ?? HTTP.httpUrl } as EventsOptions);
  return { ...given, WebSocket };
}

/** Starts a client of `service`, and closes it when the test ends. */
export function start(service: Service, options: Given = {}): Application {
  const given = onLeg({ WebSocket: service.WebSocket, ...options });
  const client = new ViralAlerts({ url: URL_OF_SERVICE, storage: null, ...given });
  const application: Application = { client, told: [], states: [], errors: [], subscribed: [] };
  const { told, states, errors, subscribed } = application;
  client.addEventListener("alert", ({ detail: { region, seq } }) => told.push(`${region} ${seq}`));
  client.addEventListener("gap", ({ detail: { region, from, to } }) => told.push(`${region} gap ${from}-${to}`));
  client.addEventListener("state", ({ detail }) => {
    states.push("transport" in detail && detail.transport !== "websocket" ? detail.transport : detail.state);
  });
  client.addEventListener("error", ({ detail }) => errors.push(detail));
  client.addEventListener("subscribed", ({ detail }) => subscribed.push(detail));
  onTestFinished(() => client.close());
  return application;
}

/** Lets time pass. */
export const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

/** Lets time pass until something is so, within the time in which a client comes back twice. */
export async function until(condition: () => boolean, stepMs = 1): Promise<void> {
  for (let passed = 0; !condition(); passed += stepMs) {
    expect(passed, `${condition}`).toBeLessThan(2 * BACK);
    await pass(stepMs);
  }
}

/** The numbers `from` to `to` of a region. */
export const alertsOf = (region: string, from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => `${region} ${from + index}`);

/** Publishes alerts of a region up to number `to`. */
export function publishUntil(service: Service, region: string, to: number): void {
  while (service.head(region).seq < to) service.publish(region);
  expect(service.head(region).seq).toBe(to);
}

/** Storage of one tab. */
export function newStorage(): Pick<Storage, "getItem" | "setItem"> {
  const kept = new Map<string, string>();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => void kept.set(key, text) };
}
