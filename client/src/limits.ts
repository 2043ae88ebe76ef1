// Every bound of the client, with its unit and origin. Times are in milliseconds.

/** Window of the first reconnect, until the service advises one. */
export const RECONNECT_WITHIN_MS = 5_000;
/**
 * Age at which a connection is replaced, until the service advises one. API Gateway closes connections after two hours.
 */
export const ROTATE_AFTER_MS = 110 * 60_000;
/** Shortest keepalive interval, and shortest age at which a connection is replaced. */
export const INTERVAL_MS_MIN = 1_000;
/** Greatest age at which a connection is replaced. AppSync Events closes connections after a day. */
export const ROTATE_AFTER_MS_MAX = 24 * 60 * 60_000;
/** Longest wait that the service may ask for: a reconnect window, or a pause before the next message. */
export const ADVICE_MS_MAX = 10 * 60_000;
/** Keepalive interval. API Gateway closes a connection after ten silent minutes, and bills every message. */
export const KEEPALIVE_MS = 9.5 * 60_000;
/** Timeout for opening, for an answer, and for a pong. A cold start takes seconds. */
export const ANSWER_MS = 15_000;
/** A page hidden for this long closes its connection. Most such pages stay hidden for hours. */
export const HIDDEN_MS = 5 * 60_000;
/** Wait for a missing alert before it is recovered. Posts overtake each other by less. */
export const HEAL_MS = 500;
/** Average pause between polls, and first backoff window after an error of HTTP. */
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
/** Regions beside `ALL` that stay subscribed after alerts of them were missing. A connection can have 100. */
export const SURPLUS_MAX = 50;
/** Milliseconds per message. The service takes ten per second. */
export const MESSAGE_MS = 125;
/** A connection that was silent for this long may send eight messages at once. */
export const SAVED_MS = 7 * MESSAGE_MS;
/** Positions in one message or request. Source: the protocol. */
export const POSITIONS_MAX = 300;
/** Longest cursor in characters. Source: the protocol. */
export const CURSOR_MAX = 4_096;
/** Early alerts of a region that are kept until the missing one arrives. The recovery brings the rest. */
export const EARLY_MAX = 500;
/** Alerts that reached everyone and are remembered to drop repeats, which follow within seconds. */
export const EVERYONE_MAX = 100;
/** Alerts that are remembered so that none is dispatched again as a recent one. */
export const TOLD_MAX = 10_000;
/** Alerts in one answer over HTTP. Source: the protocol. */
export const PAGE_MAX = 100;
/** Recoveries of a region without progress before its missing alerts count as lost. */
export const HEAL_TRIES_MAX = 5;
/** Longest time without a WebSocket before the fallback starts. The shortest is three quarters of it. */
export const FALLBACK_MS = 4_000;
/**
 * Extra pause after close code 1008 (policy violation, such as too many messages). Source: RFC 6455, section 7.4.1. The
 * developer guide does not say when API Gateway sends it.
 */
export const POLICY_MS = 60_000;
/** Shortest reconnect window after close code 1012: a restart closes all connections at once. */
export const RESTART_WITHIN_MS = 30_000;
/** Alerts queued for a slow loop over `iterate`. */
export const QUEUE_MAX = 10_000;

// --- AppSync Events --------------------------------------------------------------------------------------------------

/** Average time between looks at the log, and the shortest that an application may choose. */
export const CHECK_MS = 30 * 60_000;
export const CHECK_MS_MIN = 10_000;
/** Least wait for the look after a subscription: what is published just after its answer may not arrive. */
export const SECOND_LOOK_MS = 5_000;
/** Without a frame for so long the connection is gone. AppSync sends `ka` every 60 s. */
export const KA_MS = 65_000;
/** Window of a reconnect to the Event API, which does not advise one. */
export const EVENTS_RECONNECT_MS = 60_000;
/** A connection is replaced one to four times this long before the day after which AppSync closes it. */
export const MARGIN_MS = 60 * 60_000;
/** Shortest age at which a connection is replaced because its token ends. */
export const TOKEN_MS_MIN = 60_000;
/** A token without `iat` and `nbf` that ends sooner, by the browser's clock, is not believed to: the clock is wrong. */
export const UNDATED_MS_MIN = 10 * 60_000;
/** Requests before the first connection: each names another region, if the token forbids the one before. */
export const INQUIRIES_MAX = 3;
/** Pages of the log that are read at once. The next look reads the rest. */
export const PAGES_MAX = 100;
