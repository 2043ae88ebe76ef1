import { BACKOFF_MS_MAX } from "./limits.js";

/**
 * Pause in milliseconds before the next attempt: full jitter, so that clients that were cut off together do not come back
 * together. The first attempt lies within `within`, and each failure doubles the window.
 */
export function backoff(failures: number, within: number): number {
  return Math.random() * Math.max(within, Math.min(BACKOFF_MS_MAX, within * 2 ** failures));
}
