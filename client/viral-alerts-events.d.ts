import type { Options } from "./viral-alerts.js";
/** Options of `eventsSocket`: those of the client, so that you can pass the same object. */
export interface EventsOptions extends Pick<Options, "regions" | "token" | "WebSocket"> {
    /** Address of the HTTP API, in whose log the client finds what AppSync has lost. */
    httpUrl: string | URL;
    /**
     * Average milliseconds between looks at the log; each pause is 0.75 to 1.25 of it. An alert that was lost is found
     * after one pause at most, unless a later one of its region shows it sooner. From 10,000; more than a day counts as
     * a day. Default: 1,800,000.
     */
    checkMs?: number;
}
/**
 * Returns a class for the option `WebSocket` of the client, with which alerts come over AppSync Events if the service
 * says so, for the share of clients that it says, and over its WebSocket API otherwise. The client keeps all its
 * guarantees: the class reads the log after it has subscribed, where a number is missing, and every `checkMs`.
 *
 * @throws TypeError if `httpUrl` is missing, or `checkMs` is too small.
 * @example
 * const options = { url, httpUrl, regions: ["PL"] };
 * const alerts = new ViralAlerts({ ...options, WebSocket: eventsSocket(options) });
 */
export declare function eventsSocket(options: EventsOptions): NonNullable<Options["WebSocket"]>;
