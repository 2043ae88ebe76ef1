// Every bound of the client, with its unit and origin. Times are in milliseconds.

/** Window of the first reconnect, until the service advises one. */
export const RECONNECT_WITHIN_MS = 5_000;
/**
 * Age at which a connection is replaced, until the service advises one. API Gateway closes connections after two hours.
 */
export const ROTATE_AFTER_MS = 110 * 60_000;
/** Keepalive interval. API Gateway closes a connection after ten silent minutes, and bills every message. */
export const KEEPALIVE_MS = 9.5 * 60_000;
/** Timeout for opening, for an answer, and for a pong. A cold start takes seconds. */
export const ANSWER_MS = 15_000;
/** A page hidden for this long closes its connection. Most such pages stay hidden for hours. */
export const HIDDEN_MS = 5 * 60_000;
/** Wait for a missing alert before it is recovered. Posts overtake each other by less. */
export const HEAL_MS = 500;
/** Average pause between polls. An EventSource takes 3 s and its request. */
export const POLL_MS = 4_000;
/** First backoff window, if the requested one is 0. */
export const BACKOFF_MS_MIN = 1_000;
/** Longest backoff window. */
export const BACKOFF_MS_MAX = 30_000;
/** After this much silence, showing the page sends a ping. */
export const PROBE_AFTER_MS = 30_000;
/** Longest delay that `setTimeout` takes. Source: HTML, a signed 32-bit integer. */
export const TIMER_MS_MAX = 2 ** 31 - 1;
/** Regions in one message or request. Source: the protocol. */
export const REGIONS_MAX = 25;
/** Positions in one message or request. Source: the protocol. */
export const POSITIONS_MAX = 300;
/** Longest cursor in characters. An EventSource sends two, and API Gateway takes 10,240 bytes. Source: the protocol. */
export const CURSOR_MAX = 4_096;
/** Early alerts of a region that are kept until the missing one arrives. The recovery brings the rest. */
export const EARLY_MAX = 500;
/** Alerts that reached everyone and are remembered to drop repeats, which follow within seconds. */
export const EVERYONE_MAX = 100;
/** Recoveries of a region without progress before its missing alerts count as lost. */
export const HEAL_TRIES_MAX = 5;
/** An HTTP error counts as this many tries in the pause before the next recovery: 4 s. */
export const HTTP_TRIES = 3;
/** Longest time without a WebSocket before the fallback starts. The shortest is three quarters of it. */
export const FALLBACK_MS = 4_000;
/**
 * Extra pause after close code 1008 (policy violation, such as too many messages). Source: RFC 6455, section 7.4.1. The
 * developer guide does not say when API Gateway sends it.
 */
export const POLICY_MS = 60_000;
/** Shortest reconnect window after close code 1012: a restart closes all connections at once. */
export const RESTART_WITHIN_MS = 30_000;
/** Alerts queued for a slow `for await` loop. */
export const QUEUE_MAX = 10_000;
