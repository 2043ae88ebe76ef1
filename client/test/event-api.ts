// A client over AppSync Events, and what its connections have.

import { vi } from "vitest";
import type { Options } from "../src/viral-alerts.js";
import type { EventsOptions } from "../src/viral-alerts-events.js";
import { start, type Application } from "./application.js";
import { EVENTS } from "./appsync.js";
import { appSync, service } from "./current.js";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

export const startWith = (given: Partial<Options & EventsOptions> = {}): Application =>
  start(service, { regions: ["PL"], httpUrl: "https://service.example/", ...given });

/** Open connections to the WebSocket API and to the Event API. */
export const open = (): number[] => [service.sockets.size - appSync.sockets.size, appSync.sockets.size];
/** Handshakes with the WebSocket API. */
export const gatewayHandshakes = (): number => service.handshakes.filter((url) => url !== EVENTS.url).length;
export const channels = (): string[] =>
  [...appSync.sockets].flatMap((socket) => [...socket.channels.values()].map(({ channel }) => channel));

/** Subscriptions that clients have asked for. */
export const subscriptions = (): string[] => service.said.filter((one) => one.startsWith("subscribe "));

/** Lets one answer of the log, from which on `begins` returns true, take longer, and calls `meanwhile` then. */
export function delayOneAnswer(ms: number, begins: () => boolean, meanwhile: () => void): void {
  let isDelayed = false;
  vi.stubGlobal("fetch", async (...given: Parameters<typeof fetch>) => {
    const answer = await service.fetch(...given);
    if (isDelayed || !begins()) return answer;
    isDelayed = true;
    meanwhile();
    await new Promise((resolve) => setTimeout(resolve, ms));
    return answer;
  });
}
