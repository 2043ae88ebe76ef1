import { type ViralAlert, type ViralAlerts } from "./viral-alerts.js";
/**
 * Yields alerts from now on, except those that are removed before the loop reaches them. Ends when the client is
 * closed.
 *
 * @throws ViralAlertsError if an error closes the client, or if the loop is 10,000 alerts behind (`slow_consumer`).
 * @example
 * for await (const { region, video } of iterate(alerts)) console.log(region, video.title);
 */
export declare function iterate(client: ViralAlerts): AsyncGenerator<ViralAlert, void, void>;
