import { BACKOFF_MS_MAX, BACKOFF_MS_MIN } from "./limits.js";

/**
 * Returns the backoff in milliseconds before the next attempt. Full jitter spreads clients that were cut off together.
 * The first window is `within`, and each failure doubles it, up to `BACKOFF_MS_MAX`.
 */
export function backoff(failures: number, within: number): number {
  return Math.random() * Math.max(within, Math.min(BACKOFF_MS_MAX, (within || BACKOFF_MS_MIN) * 2 ** failures));
}
