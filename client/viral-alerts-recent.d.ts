import { type Options, type ViralAlert, type ViralAlerts } from "./viral-alerts.js";
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
export declare function startRecent(alerts: ViralAlerts, options: RecentOptions): Recent;
