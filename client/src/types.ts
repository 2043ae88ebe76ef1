// The public types and the error class. Every other file may import them.

/** The place of an alert in its region's log. `seq` counts from 1 without gaps; each new log has a later `epoch`. */
export interface Position {
  epoch: number;
  seq: number;
}

/** An alert as the service sends it. Publishers wrote its texts: show them as text, never as markup. */
export interface ViralAlert {
  type: "viral_alert";
  region: string;
  epoch?: number;
  seq?: number;
  id?: string;
  /** Text direction of the title. */
  dir?: "ltr" | "rtl";
  /** Set if the region has no subscribers and the alert went to every connection, also to those of other regions. */
  everyone?: true;
  /** Set by this client if the alert was published before the client began to follow its region. */
  recent?: true;
  /** The publisher's fields, unchanged. */
  video: { id: string; title: string; thumbnail?: string | null; score?: number; [field: string]: unknown };
  /** When the alert was published, as in RFC 3339. */
  timestamp: string;
}

/** The removal of an alert. The alert keeps its sequence number, so it leaves no gap. */
export interface RemovedAlert {
  type: "alert_removed";
  region: string;
  epoch: number;
  seq: number;
  id: string;
}

/** How the client receives alerts. */
export type Transport = "websocket" | "polling";

/** What the client does now. `waiting` is the backoff before the next attempt. `closed` is final. */
export type State =
  | { state: "open"; transport: Transport }
  | { state: "waiting"; retryInMs: number }
  | { state: "connecting" | "offline" | "paused" | "closed" };

/**
 * An error of the client or of the service. `code` is one of these, or a code of the service:
 *
 * - `unauthorized`: the service refused the token, or requires one. Terminal: the client has closed.
 * - `connect`: no connection could be tried, because the `token` callback threw or took longer than 15 s, the token
 *   cannot be sent, or the constructor of the WebSocket threw. The client retries.
 * - `http`: the page got no answer of `httpUrl`, which has another origin: the network failed, or `AllowedOrigins` does
 *   not name the page. Reported once; the client retries.
 * - `recent`: `startRecent` could not read alerts from before. It reads them after the next connection.
 * - `closed`: the client is closed. Only promises are rejected with it.
 * - `slow_consumer`: a loop over `iterate` is 10,000 alerts behind. Only that loop throws it.
 */
export class ViralAlertsError extends Error {
  override readonly name = "ViralAlertsError";
  declare readonly code: string;
  /** The status of the HTTP answer, if the error is one. */
  declare readonly status: number | undefined;
  /** The field of the message that the service rejected. */
  declare readonly field: string | undefined;
  /** Whether the client has closed because of this error. */
  declare readonly terminal: boolean;

  constructor(error: { code?: string; message?: string; field?: string; status?: number; terminal?: boolean }) {
    super();
    Object.assign(this, { code: "", message: error.code, terminal: false }, error);
  }
}

/** The events of `ViralAlerts`, by type. */
export interface EventMap {
  /** An alert. Each comes once, in the order of its region. Alerts with `everyone` come as they arrive. */
  alert: CustomEvent<ViralAlert>;
  /** An alert was removed: stop showing it. May repeat, and may name an alert that this client never had. */
  removed: CustomEvent<RemovedAlert>;
  /** The state changed. */
  state: CustomEvent<State>;
  /** The client follows a watched region from these positions on. `ALL` has the positions of every region. */
  subscribed: CustomEvent<{ region: string; positions: Record<string, Position> }>;
  /**
   * The alerts with the sequence numbers `from` to `to`, both included, are lost. `to` is null if the region has a new
   * log: then everything after `from` in the old one is lost.
   */
  gap: CustomEvent<{ region: string; from: number; to: number | null }>;
  /** Something failed. The client goes on, unless `detail.terminal` is true. */
  error: CustomEvent<ViralAlertsError>;
}

/**
 * The events of `ViralAlerts` that belong to a region. Each is also dispatched with the region behind its type, in
 * capitals: `alert:PL`.
 */
export type RegionEventMap = Pick<EventMap, "alert" | "removed" | "subscribed" | "gap">;

/** The part of a WebSocket that the client uses. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown } & never) => void) | null;
  onerror: ((event: never) => void) | null;
  onclose: ((event: { code?: number } & never) => void) | null;
  send(data: string): void;
  close(code?: number): void;
}

/** The options of `ViralAlerts`. Only `url` is required. */
export interface Options {
  /** Address of the WebSocket API, with its stage: `wss://….amazonaws.com/prod`. `https:` counts as `wss:`. */
  url: string | URL;
  /**
   * Address of the HTTP API. Without it there is no fallback from WebSockets, and missed alerts that do not fit in one
   * frame are a `gap`.
   */
  httpUrl?: string | URL | undefined;
  /** Regions to watch from the start; a string is one region. Default: none. */
  regions?: string | Iterable<string>;
  /**
   * Decides whether an alert is dispatched. What it refuses counts as received. If it throws, the alert is dispatched
   * and the error goes to `reportError`.
   */
  accept?: (alert: ViralAlert) => boolean;
  /**
   * A token, or a function that returns one. The client calls it for every connection and request, and waits for it
   * up to 15 s.
   */
  token?: string | (() => string | Promise<string>) | undefined;
  /** Where positions are kept. Default: `sessionStorage` in a page, nothing elsewhere. `null` keeps nothing. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /** Whether tabs share a connection. Tabs with different strings do not share. Default: `true` in a page. */
  share?: boolean | string;
  /** The WebSocket class, for runtimes without one: in Node.js 20, that of the package `ws`. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
  /**
   * Window in milliseconds for the first reconnect: the client draws a random moment in it. Each failure doubles it, up
   * to 30 s. At most 10 minutes. Default: what the service advises.
   */
  reconnectWithinMs?: number;
  /**
   * Age in milliseconds at which a connection is replaced, from 1,000 to a day. Default: what the service advises, 110
   * minutes.
   */
  rotateAfterMs?: number;
  /** Milliseconds between keepalives, at least 1,000. Default: 9.5 minutes. `Infinity` sends none. */
  keepaliveMs?: number;
  /** A page hidden for this many milliseconds closes its connection. Default: 5 minutes. `Infinity` keeps it open. */
  hiddenMs?: number;
}
