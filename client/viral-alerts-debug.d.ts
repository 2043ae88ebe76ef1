import type { ViralAlerts } from "./viral-alerts.js";
/**
 * Prints every event of a client, with the seconds since this call. Returns a function that ends it.
 *
 * @param print Called with a line and the event's detail. Default: `console.debug`.
 * @example
 * if (location.hash === "#debug") debug(alerts);
 */
export declare function debug(alerts: ViralAlerts, print?: (line: string, detail: unknown) => void): () => void;
