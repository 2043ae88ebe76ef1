import type * as React from "react";
import { ViralAlerts, type Options, type State, type ViralAlert } from "./viral-alerts.js";
import type { ViralToastElement, ViralToastEventMap } from "./viral-toast.js";
/** A client and its state. `client` is undefined on a server and until the first effect has run. */
export interface Connection {
    client: ViralAlerts | undefined;
    state: State;
}
/** Options of `useConnection`: those of the client, except the regions, which `useAlerts` watches. */
export interface ConnectionOptions extends Omit<Options, "regions"> {
    /** Alerts from before that each region begins with. Needs `httpUrl`. Default: 0. */
    recent?: number;
}
/** One region or several, in any case; `ALL` stands for every region. An empty string stands for none. */
export type Regions = string | readonly string[];
/**
 * Returns a client that lives as long as the component, and its state. Call it once, high in the tree, and pass the
 * result to `useAlerts`. Another `url`, `httpUrl` or `share` makes another client. `token` and `accept` may change with
 * each rendering, and the newest are called. Other options are read when the client is made.
 *
 * @throws TypeError if `recent` is not a whole number from 0.
 * @example
 * const connection = useConnection({ url: "wss://example.com/prod", httpUrl: "https://example.com", recent: 10 });
 */
export declare function useConnection(options: ConnectionOptions): Connection;
/**
 * Watches regions while the component is mounted and returns their alerts, newest first, up to `max` (at most 100).
 * Alerts that are taken back leave the list. Components that watch the same region share it. When the regions change,
 * the connection stays, regions that stay lose no alert, and the list has only alerts of the new regions.
 *
 * @throws RangeError if the name of a region is invalid.
 * @throws TypeError if `max` is not a whole number from 0.
 * @example
 * const alerts = useAlerts(connection, "PL", 10);
 */
export declare function useAlerts(connection: Connection, regions: Regions, max?: number): readonly ViralAlert[];
declare module "react" {
    namespace JSX {
        interface IntrinsicElements {
            /** The element of `viral-alerts/toast`. */
            "viral-toast": React.DetailedHTMLProps<React.HTMLAttributes<ViralToastElement>, ViralToastElement> & {
                duration?: number | string;
                max?: number | string;
                "per-minute"?: number | string;
                hotkey?: string;
                "dismiss-label"?: string;
                headline?: ViralToastElement["headline"];
                summary?: ViralToastElement["summary"];
                href?: ViralToastElement["href"];
                onactivate?: (event: ViralToastEventMap["activate"]) => void;
                ondismiss?: (event: ViralToastEventMap["dismiss"]) => void;
            };
        }
    }
}
