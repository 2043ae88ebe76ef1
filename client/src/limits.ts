// Every bound of the client, with its unit and origin. Times are in milliseconds.

/** Window for the first attempt after a cut, before the service has advised one. */
export const RECONNECT_WITHIN_MS = 5_000;
/** API Gateway cuts after two hours; the service advises when to be gone before. */
export const ROTATE_AFTER_MS = 110 * 60_000;
/** API Gateway closes a connection that was silent for ten minutes; every ping is paid for. */
export const KEEPALIVE_MS = 9.5 * 60_000;
/** Time to open, to answer, and to show a sign of life. A function that starts cold answers within seconds. */
export const ANSWER_MS = 15_000;
/** Most pages that are hidden for longer are not looked at again for hours. */
export const HIDDEN_MS = 5 * 60_000;
/** Time that a missing alert has to arrive by itself: posts overtake each other by less. */
export const HEAL_MS = 500;
/** Pause between two polls, on average: an EventSource takes 3 s and its request. */
export const POLL_MS = 4_000;
/** Window that doubles where the one that was asked for is none. */
export const BACKOFF_MS_MIN = 1_000;
/** Longest pause between two attempts. */
export const BACKOFF_MS_MAX = 30_000;
/** Silence after which a look at the page is reason enough for a ping. */
export const PROBE_AFTER_MS = 30_000;
/** Delays that `setTimeout` takes. Source: HTML, a signed 32-bit integer. */
export const TIMER_MS_MAX = 2 ** 31 - 1;
/** Regions in one message or request. Source: the protocol. */
export const REGIONS_MAX = 25;
/** Positions in one message or request. Source: the protocol. */
export const POSITIONS_MAX = 300;
/** Longest cursor, in characters: an EventSource sends two, within the 10,240 bytes that API Gateway takes. Source: the protocol. */
export const CURSOR_MAX = 4_096;
/** Alerts of a region that wait for one that is missing; those beyond come with the recovery. */
export const EARLY_MAX = 500;
/** Alerts that reached everyone and are remembered, so that none is told twice. A repeat follows within seconds. */
export const EVERYONE_MAX = 100;
/** Recoveries of a region without any progress, after which what is missing counts as lost. */
export const HEAL_TRIES_MAX = 5;
/** A failure of HTTP counts as this many in the pause before the next recovery: 4 s. */
export const HTTP_TRIES = 3;
/** Longest time without a WebSocket before alerts come over HTTP; the shortest is three quarters of it. */
export const FALLBACK_MS = 4_000;
/**
 * Pause after close code 1008, such as for too many messages. Sources: RFC 6455, section 7.4.1; the developer guide does not
 * say when API Gateway sends it.
 */
export const POLICY_MS = 60_000;
/** Shortest window for the first attempt after close code 1012: a service that restarts closes all connections. */
export const RESTART_WITHIN_MS = 30_000;
/** Alerts that wait for a slow `for await`. */
export const QUEUE_MAX = 10_000;
