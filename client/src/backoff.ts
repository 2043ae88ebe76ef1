import { BACKOFF_MS_MAX, BACKOFF_MS_MIN, TIMER_MS_MAX } from "./limits.js";

/**
 * Pause in milliseconds before the next attempt: full jitter, so that clients that were cut off together do not come back
 * together. The first attempt lies within `within`, and each failure doubles the window.
 */
export function backoff(failures: number, within: number): number {
  const window = Math.max(within, Math.min(BACKOFF_MS_MAX, (within || BACKOFF_MS_MIN) * 2 ** failures));
  return Math.random() * Math.min(window, TIMER_MS_MAX);
}
