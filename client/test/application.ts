// An application around the client, which records its events in short.

import { expect, onTestFinished, vi } from "vitest";
import { ViralAlerts, type EventMap, type Options } from "../src/viral-alerts.js";
import type { Service } from "./service.js";

export const URL_OF_SERVICE = "wss://service.example/prod";

export interface Application {
  client: ViralAlerts;
  /** Alerts as `PL 1`, gaps as `PL gap 2-3`, in the order of their events. */
  told: string[];
  states: string[];
  errors: EventMap["error"]["detail"][];
  subscribed: EventMap["subscribed"]["detail"][];
}

/** Starts a client of `service`, and closes it when the test ends. */
export function start(service: Service, options: Partial<Options> = {}): Application {
  const client = new ViralAlerts({ url: URL_OF_SERVICE, WebSocket: service.WebSocket, storage: null, ...options });
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
