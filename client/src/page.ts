// The life of the page: visible, hidden or frozen, online or offline.

import { TIMER_MS_MAX } from "./limits.js";

/**
 * Calls `pause` when the page has been hidden for `hiddenMs`, is frozen, or is left: then connections and locks have to
 * go. Calls `resume` now, and whenever the page is shown, runs again, or is back online. Calls `offline` when the
 * network is gone. Returns a function that ends the watch. Without a page only the first `resume` happens.
 */
export function watchPage(hiddenMs: number, pause: () => void, resume: () => void, offline: () => void): () => void {
  const { document } = globalThis;
  const ended = new AbortController();
  /** The timer of a hidden page; 0 once it has run out. */
  let timer: ReturnType<typeof setTimeout> | 0 | undefined;
  const on = (target: EventTarget | undefined, type: string, listener: (event: Event) => void): void =>
    target?.addEventListener?.(type, listener, ended);
  const expire = (): void => {
    timer = 0;
    pause();
  };
  const look = (event?: Event): void => {
    if (document?.hidden) {
      if (hiddenMs < TIMER_MS_MAX) timer ??= setTimeout(expire, hiddenMs);
      // A page hidden for that long stays paused, whatever event arrives.
      if (timer === 0 || event?.type === "visibilitychange") return;
    } else {
      clearTimeout(timer);
      timer = undefined;
    }
    resume();
  };
  on(document, "visibilitychange", look);
  on(document, "freeze", pause);
  on(document, "resume", look);
  on(globalThis, "pagehide", pause);
  on(globalThis, "pageshow", look);
  on(globalThis, "online", look);
  on(globalThis, "offline", offline);
  look();
  return () => {
    clearTimeout(timer);
    ended.abort();
  };
}
