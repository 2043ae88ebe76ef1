// What happens to the page and to the network.

import { TIMER_MS_MAX } from "./limits.js";

/**
 * Calls `pause` when nobody has looked at the page for `hiddenMs`, or when it cannot run: then nothing may be held any more.
 * Calls `resume` at once, and whenever there is reason to try: somebody looks, the page runs again, the network is back.
 * Returns what ends all that. Where there is no page nothing more happens.
 */
export function watchPage(hiddenMs: number, pause: () => void, resume: () => void, offline: () => void): () => void {
  const { document } = globalThis;
  const ended = new AbortController();
  /** Runs while the page is hidden, and is 0 when it has run out. */
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
      // Whatever happens to a page that nobody has looked at for so long.
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
