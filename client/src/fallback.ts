// Alerts without a WebSocket: polling. An EventSource would ask as often, as the service ends each of its answers.

import { backoff } from "./backoff.js";
import { catchUp, get } from "./history.js";
import { POLL_MS } from "./limits.js";
import { ALL, type Log } from "./log.js";
import type { Settings } from "./settings.js";
import type { State } from "./types.js";

export interface Fallback {
  /** Polls at once: the watched regions changed, or an alert is missing. */
  refresh(): void;
  stop(): void;
}

/**
 * Follows what `regions` returns until it is stopped, and reports its state. `end` returns whether an error is final.
 */
export function startFallback(
  settings: Settings,
  log: Log,
  regions: () => string[],
  tell: (state: State) => void,
  end: (error: unknown) => boolean,
): Fallback {
  let failures = 0;
  let stopped = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  /** Polls after a pause. A poll that is under way goes on beside it. */
  const later = (pause = 0): void => {
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(poll, pause);
  };

  const poll = async (): Promise<void> => {
    let pause = POLL_MS * (0.5 + Math.random());
    try {
      const asked = regions();
      log.keep(asked);
      // Until ALL has begun, regions that are watched by name go on by name.
      if (!log.has(ALL)) await catchUp(settings, log, asked.filter((region) => region !== ALL));
      if (asked.includes(ALL)) await catchUp(settings, log, [ALL]);
      // Without regions, a request still shows whether the service accepts this client.
      else if (!asked[0]) await get(settings, { region: ALL });
      failures = 0;
      if (!stopped) tell({ state: "open", transport: "polling" });
    } catch (error) {
      if (stopped || end(error)) return;
      pause = backoff(failures++, POLL_MS);
      tell({ state: "waiting", retryInMs: pause });
    }
    later(pause);
  };

  void poll();
  return {
    refresh: later,
    stop() {
      stopped = true;
      later();
    },
  };
}
