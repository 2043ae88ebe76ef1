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
  let timer: ReturnType<typeof setTimeout> | undefined;
  const on = (target: EventTarget | undefined, type: string, listener: (event: Event) => void): void =>
    target?.addEventListener?.(type, listener, ended);
  const look = (event?: Event): void => {
    clearTimeout(timer);
    const { hidden } = document ?? {};
    if (!hidden || event?.type !== "visibilitychange") resume();
    if (hidden && hiddenMs < TIMER_MS_MAX) timer = setTimeout(pause, hiddenMs);
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
