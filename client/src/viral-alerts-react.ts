import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import type * as React from "react";
import { wholeNumber } from "./numbers.js";
import { nameOf } from "./region.js";
import { startRecent } from "./viral-alerts-recent.js";
import { ViralAlerts, type Options, type RemovedAlert, type State, type ViralAlert } from "./viral-alerts.js";
import type { ViralToastElement, ViralToastEventMap } from "./viral-toast.js";

/** Alerts of a client that are kept for its components. */
const KEPT_MAX = 100;

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

const CONNECTING: State = { state: "connecting" };
const NONE: readonly ViralAlert[] = [];

/** What components share of a client. */
interface Shared {
  /** Components by the region that they watch. */
  watchers: Map<string, number>;
  /** The newest alerts, newest first. */
  alerts: readonly ViralAlert[];
}

const shared = new WeakMap<ViralAlerts, Shared>();

const covers = (regions: readonly string[], region: string): boolean =>
  regions.includes(region) || regions.includes("ALL");

function keepAlerts(client: ViralAlerts): void {
  const kept: Shared = { watchers: new Map(), alerts: NONE };
  const isSame = (one: ViralAlert, { region, epoch, seq }: RemovedAlert): boolean =>
    one.region === region && one.epoch === epoch && one.seq === seq;
  shared.set(client, kept);
  client.addEventListener("alert", ({ detail }) => {
    // An alert from before takes its place behind newer ones.
    const older = kept.alerts.findIndex(({ timestamp }) => Date.parse(timestamp) <= Date.parse(detail.timestamp));
    const at = older < 0 ? kept.alerts.length : older;
    kept.alerts = [...kept.alerts.slice(0, at), detail, ...kept.alerts.slice(at)].slice(0, KEPT_MAX);
  });
  client.addEventListener("removed", ({ detail }) => {
    kept.alerts = kept.alerts.filter((alert) => !isSame(alert, detail));
  });
}

/** Returns the names of regions, sorted, each once. Throws a `RangeError` if one is invalid. */
const namesOf = (regions: Regions): string[] =>
  [...new Set([regions].flat().filter((region) => region !== "").map(nameOf))].sort();

/** Adds a component that watches a region, and returns a function that removes it. */
function enter(client: ViralAlerts, region: string): () => void {
  const { watchers } = shared.get(client)!;
  const count = (change: 1 | -1): void => void watchers.set(region, (watchers.get(region) ?? 0) + change);
  count(1);
  if (client.state.state !== "closed") client.watch(region);
  return () => {
    count(-1);
    // Before it runs effects, React ends those of before. The region is left only if none of them watches it again,
    // because the client then forgets its position.
    queueMicrotask(() => {
      if (watchers.get(region)) return;
      watchers.delete(region);
      if (client.state.state !== "closed") client.unwatch(region);
    });
  };
}

/**
 * Returns a client that lives as long as the component, and its state. Call it once, high in the tree, and pass the
 * result to `useAlerts`. Another `url`, `httpUrl` or `share` makes another client. `token` and `accept` may change with
 * each rendering, and the newest are called. Other options are read when the client is made.
 *
 * @throws TypeError if `recent` is not a whole number from 0.
 * @example
 * const connection = useConnection({ url: "wss://example.com/prod", httpUrl: "https://example.com", recent: 10 });
 */
export function useConnection(options: ConnectionOptions): Connection {
  const [connection, setConnection] = useState<Connection>({ client: undefined, state: CONNECTING });
  const newest = useRef(options);
  const { url, httpUrl, share } = options;
  wholeNumber("recent", options.recent ?? 0);
  useEffect(() => {
    newest.current = options;
  });
  // Only browsers run effects. In strict mode the first of two clients opens no connection, as it closes at once.
  useEffect(() => {
    const { token, accept, httpUrl, recent } = newest.current;
    const callbacks = {
      ...(token !== undefined && {
        token: async () => {
          const { token = "" } = newest.current;
          return typeof token === "string" ? token : token();
        },
      }),
      ...(accept && { accept: (alert: ViralAlert) => newest.current.accept?.(alert) ?? true }),
    };
    const client = new ViralAlerts({ ...newest.current, ...callbacks });
    if (recent && httpUrl) startRecent(client, { httpUrl, recent, ...callbacks });
    keepAlerts(client);
    const left = new AbortController();
    client.addEventListener("state", ({ detail }) => setConnection({ client, state: detail }), left);
    setConnection({ client, state: client.state });
    return () => {
      left.abort();
      client.close();
    };
  }, [`${url}`, httpUrl && `${httpUrl}`, share]);
  return connection;
}

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
export function useAlerts(connection: Connection, regions: Regions, max = KEPT_MAX): readonly ViralAlert[] {
  const { client } = connection;
  wholeNumber("max", max);
  // A list that is made for each rendering is the same list.
  const key = namesOf(regions).join();
  const names = useMemo(() => key.split(",").filter(Boolean), [key]);
  useEffect(() => {
    if (!client) return;
    const leave = names.map((region) => enter(client, region));
    return () => leave.forEach((leaveRegion) => leaveRegion());
  }, [client, names]);
  const subscribe = useCallback(
    (changed: () => void): (() => void) => {
      const left = new AbortController();
      client?.addEventListener("alert", changed, left);
      client?.addEventListener("removed", changed, left);
      return () => left.abort();
    },
    [client],
  );
  const all = useSyncExternalStore(
    subscribe,
    () => (client && shared.get(client)?.alerts) ?? NONE,
    () => NONE,
  );
  return useMemo(
    () => all.filter(({ region }) => covers(names, region)).slice(0, max),
    [all, names, max],
  );
}

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
