import { accepts } from "./accept.js";
import { get } from "./history.js";
import { PAGE_MAX, REGIONS_MAX, TOLD_MAX } from "./limits.js";
import type { Answer } from "./news.js";
import { wholeNumber } from "./numbers.js";
import { nameOf } from "./region.js";
import { tokenFrom } from "./token.js";
import {
  ViralAlertsError,
  type Options,
  type Position,
  type RemovedAlert,
  type ViralAlert,
  type ViralAlerts,
} from "./viral-alerts.js";

/** Options of `startRecent`: those of the client, so that you can pass the same object. */
export interface RecentOptions extends Pick<Options, "token" | "accept"> {
  /** Address of the HTTP API. */
  httpUrl: string | URL;
  /** Alerts that each watched region begins with. Default: 0. */
  recent?: number;
}

/**
 * Dispatches up to `count` alerts of a watched region from before as events `alert` of the client, marked `recent`,
 * oldest first, and resolves with them: the newest ones that were not dispatched yet and that `accept` does not refuse.
 * Repeated calls go further back, as far as the newest 100 alerts of the log. Waits until the client is ready, and
 * takes at most two requests. Rejects with a `ViralAlertsError` if the client is closed or the service refuses, with
 * the error of `fetch` if that fails, with a `RangeError` if the name of the region is invalid, and with a `TypeError`
 * if `count` is not a whole number from 0.
 */
export type Recent = (region: string, count: number) => Promise<ViralAlert[]>;

/** Whether the log of a region in the answer may have more than the answer, which was limited to `limit` alerts. */
function isCut({ alerts = [], removed = [], positions }: Answer, limit: number): boolean {
  const regions = Object.keys(positions);
  // Each region has an equal share.
  const share = limit / Math.min(regions.length, REGIONS_MAX);
  const counts = new Map<string, number>();
  for (const { region } of [...alerts, ...removed]) counts.set(region, (counts.get(region) ?? 0) + 1);
  return [...counts.values()].some((count) => count >= share);
}

/**
 * Reads alerts from before a client came, each of which is dispatched once: not again if the client has had it, and not
 * here if the client is still to get it. Every watched region begins with `recent` of them. If reading them fails, the
 * client gets an `error` with the code `recent`, and they are read after the next connection.
 *
 * @throws TypeError if `recent` is not a whole number from 0.
 * @example
 * const options = { url, httpUrl, regions: ["PL"], recent: 10 };
 * const alerts = new ViralAlerts(options);
 * const recent = startRecent(alerts, options);
 * alerts.addEventListener("alert", ({ detail }) => list(detail, detail.recent ? "earlier" : "new"));
 */
export function startRecent(alerts: ViralAlerts, options: RecentOptions): Recent {
  const { httpUrl, token, accept } = options;
  const each = wholeNumber("recent", options.recent ?? 0);
  const settings = {
    httpUrl: String(httpUrl).replace(/\/$/, ""),
    token: token == null ? undefined : () => tokenFrom(token),
  };
  /** Where the client began to follow each region. What follows is dispatched by the client. */
  const begun = new Map<string, Position>();
  /** Regions that are still to begin with alerts from before. */
  const owed = new Set<string>();
  /** Alerts that were dispatched or removed. */
  const told = new Set<string>();
  const keyOf = ({ region, epoch, seq }: ViralAlert | RemovedAlert): string => `${[region, epoch, seq]}`;
  const tell = (alert: ViralAlert | RemovedAlert): void => {
    if (told.size >= TOLD_MAX) told.delete(told.values().next().value!);
    told.add(keyOf(alert));
  };

  /** Whether the client dispatches an alert itself. */
  const isNew = ({ region, epoch, seq }: ViralAlert): boolean => {
    const at = begun.get(region);
    return !at || epoch !== at.epoch || seq! > at.seq;
  };

  /** Returns the newest alerts from before, up to `count`, oldest first. */
  const read = async (region: string, count: number): Promise<ViralAlert[]> => {
    // As many of the newest as `told` has may have been dispatched before. Others may be refused, taken back, or
    // dispatched by another call meanwhile: then there is a second request, for all that a page takes.
    for (let limit = Math.min(count + told.size, PAGE_MAX); ; limit = PAGE_MAX) {
      const answer = await get(settings, { region, limit: `${limit}` });
      const untold = (answer.alerts ?? []).filter((alert) => !told.has(keyOf(alert)));
      const old = untold.filter((alert) => !isNew(alert));
      const found = old.filter((alert) => accepts(accept, alert));
      if (untold.length - old.length + found.length < count && limit < PAGE_MAX && isCut(answer, limit)) continue;
      return found.sort((one, other) => Date.parse(one.timestamp) - Date.parse(other.timestamp)).slice(-count);
    }
  };

  const recent: Recent = async (region, count) => {
    const name = nameOf(region);
    wholeNumber("count", count);
    await alerts.ready();
    if (!count) return [];
    const found = (await read(name, count)).map((alert): ViralAlert => ({ ...alert, recent: true }));
    for (const detail of found) {
      alerts.dispatchEvent(new CustomEvent("alert", { detail }));
      alerts.dispatchEvent(new CustomEvent(`alert:${detail.region}`, { detail }));
    }
    return found;
  };

  const pay = (): void => {
    for (const region of owed) {
      owed.delete(region);
      recent(region, each).catch((error: Error) => {
        owed.add(region);
        if (alerts.state.state === "closed") return;
        const detail = new ViralAlertsError({ code: "recent", message: error.message });
        alerts.dispatchEvent(new CustomEvent("error", { detail }));
      });
    }
  };

  alerts.addEventListener("alert", ({ detail }) => tell(detail));
  alerts.addEventListener("removed", ({ detail }) => tell(detail));
  alerts.addEventListener("subscribed", ({ detail: { region, positions } }) => {
    for (const [name, position] of Object.entries(positions)) begun.set(name, position);
    if (each) owed.add(region);
    pay();
  });
  alerts.addEventListener("state", ({ detail }) => {
    if (detail.state === "open") pay();
  });
  return recent;
}
