import { startClient } from "./client.js";
import type { EventMap, Options, RegionEventMap, State } from "./types.js";

export * from "./types.js";

/**
 * Follows regions over one connection and dispatches each alert once, in the order of its region. Region names are not
 * case-sensitive; `ALL` stands for every region.
 *
 * @example
 * const alerts = new ViralAlerts({ url: "wss://example.com/prod", httpUrl: "https://example.com", regions: ["PL"] });
 * alerts.addEventListener("alert", ({ detail }) => console.log(detail.region, detail.video.title));
 */
export class ViralAlerts extends EventTarget {
  /** The watched regions, sorted. */
  declare readonly watched: readonly string[];
  /** What the client does now. */
  declare readonly state: State;
  /**
   * The number of events so far by type, without those of `viral-alerts/recent`. A type is absent before its first
   * event.
   */
  declare readonly counts: Readonly<Partial<Record<keyof EventMap, number>>>;
  /**
   * Resolves when no watched region waits for its beginning any more: from here on no alert is left out. A region that
   * the service refuses is not waited for. Rejects with a `ViralAlertsError` if the client is closed: with the error
   * that closed it, or one with the code `closed`.
   */
  declare readonly ready: () => Promise<void>;
  /**
   * Watches a region: from now on, or from where this tab left off. Throws a `RangeError` if the name is invalid.
   */
  declare readonly watch: (region: string) => void;
  /** Stops watching a region and forgets its position. */
  declare readonly unwatch: (region: string) => void;
  /** Connects now instead of at the end of the backoff. Of an open connection it checks whether it still answers. */
  declare readonly reconnect: () => void;
  /** Closes the client permanently. */
  declare readonly close: () => void;

  /**
   * Starts the client; it connects on its own.
   *
   * @param options The options, or only the address of the WebSocket API.
   * @throws TypeError if an address, a number or `regions` is invalid, or if the runtime has no WebSocket.
   * @throws RangeError if the name of a region is invalid.
   */
  constructor(options: string | URL | Options) {
    super();
    const given = typeof options === "string" || options instanceof URL ? { url: options } : { ...options };
    startClient(this, given, (type, detail) => this.dispatchEvent(new CustomEvent(type, { detail })));
  }
}

/** All events by type, those of a region also as `alert:PL`. */
type Events = EventMap & { [Type in keyof RegionEventMap as `${Type}:${string}`]: RegionEventMap[Type] };

type Listener<Event> = ((event: Event) => void) | { handleEvent(event: Event): void } | null;

export interface ViralAlerts {
  addEventListener<Type extends keyof Events>(
    type: Type,
    listener: Listener<Events[Type]>,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof Events>(
    type: Type,
    listener: Listener<Events[Type]>,
    options?: boolean | EventListenerOptions,
  ): void;
}
