// The types of the public face, which all parts share, and the error that it throws.

/** Where an alert stands in the log of its region. `seq` counts from 1, without gaps within an `epoch`. */
export interface Position {
  epoch: number;
  seq: number;
}

/** An alert as the service sends it. Every text in it was written by others: show it as text, never as markup. */
export interface ViralAlert {
  type: "viral_alert";
  region: string;
  epoch?: number;
  seq?: number;
  id?: string;
  /** Direction of the title. */
  dir?: "ltr" | "rtl";
  /** Nobody watches the region, so the alert goes to every connection: this client may not watch it either. */
  everyone?: true;
  /** What the publisher sent, with all its fields. */
  video: { id: string; title: string; thumbnail?: string | null; score?: number; [field: string]: unknown };
  /** RFC 3339. */
  timestamp: string;
}

/** That an alert was taken back. Its number stays, so nothing is missing. */
export interface RemovedAlert {
  type: "alert_removed";
  region: string;
  epoch: number;
  seq: number;
  id: string;
}

/** How alerts come in. */
export type Transport = "websocket" | "eventsource" | "polling";

/** What the client is doing. `closed` is final. */
export type State =
  | { state: "open"; transport: Transport }
  | { state: "waiting"; retryInMs: number }
  | { state: "connecting" | "offline" | "paused" | "closed" };

/**
 * Something was refused. Codes: `unauthorized` (terminal: the client has closed), `connect` (the callback for a token threw or
 * took 15 s, its token cannot be sent, or the constructor of the WebSocket threw; all are retried), `cors` (the page may not read
 * `httpUrl`; retried), `slow_consumer` (thrown to a `for await` that is too far behind), and those of the service.
 */
export class ViralAlertsError extends Error {
  override readonly name = "ViralAlertsError";
  declare readonly code: string;
  /** The field of the message that the service refused. */
  declare readonly field: string | undefined;
  /** Whether the client has closed for good. */
  declare readonly terminal: boolean;

  constructor(error: { code?: string; message?: string; field?: string; terminal?: boolean }) {
    super();
    Object.assign(this, { code: "", terminal: false }, error);
  }
}

/** The events of `ViralAlerts`. */
export interface EventMap {
  /** Each alert once, in the order of its region; one that reached everyone as it comes. */
  alert: CustomEvent<ViralAlert>;
  /** An alert was taken back, which may have been told or not: what is shown of it goes. Once or more. */
  removed: CustomEvent<RemovedAlert>;
  state: CustomEvent<State>;
  /** A region that was watched is followed from these positions on; `ALL` from those of every region. */
  subscribed: CustomEvent<{ region: string; positions: Record<string, Position> }>;
  /** The alerts from number `from` up to and with `to` are lost; all that followed if `to` is null: the log is another. */
  gap: CustomEvent<{ region: string; from: number; to: number | null }>;
  error: CustomEvent<ViralAlertsError>;
}

/** What the client needs of a WebSocket. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown } & never) => void) | null;
  onerror: ((event: never) => void) | null;
  onclose: ((event: { code?: number } & never) => void) | null;
  send(data: string): void;
  close(code?: number): void;
}

/** What the client needs of an EventSource. */
export interface EventSourceLike {
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown } & never) => void) | null;
  onerror: ((event: never) => void) | null;
  close(): void;
}

export interface Options {
  /** Address of the WebSocket API with its stage. */
  url: string | URL;
  /** Address of the HTTP API. Without it there is no fallback, and what does not fit in one answer is lost. */
  httpUrl?: string | URL | undefined;
  /** Regions to watch from the beginning; a string is one region. */
  regions?: string | Iterable<string>;
  /** A token, or what returns one; it is called for every connection and request. With a token there is no EventSource. */
  token?: string | (() => string | Promise<string>) | undefined;
  /** Keeps the positions, and whether WebSockets failed; by default the `sessionStorage` of a page. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /** Whether the tabs of a browser share a connection; a text keeps users apart. By default `true` in a page. */
  share?: boolean | string;
  /** Where there is no global one, as in Node.js 20: that of the package `ws`. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
  EventSource?: (new (url: string) => EventSourceLike) | undefined;
  /** A cut connection is opened again within this window, in milliseconds; by default the service says. */
  reconnectWithinMs?: number;
  /** A connection is replaced after this time, in milliseconds; by default the service says, 110 minutes. */
  rotateAfterMs?: number;
  /** Milliseconds from one keepalive to the next, by default 9.5 minutes. */
  keepaliveMs?: number;
  /** A page that is hidden for this many milliseconds gives its connection up: by default 5 minutes, `Infinity` for never. */
  hiddenMs?: number;
}
