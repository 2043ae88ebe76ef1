// Alerts without a WebSocket: an EventSource, and polling where that cannot be had either.

import { backoff } from "./backoff.js";
import { Unauthorized, address, catchUp, cursor, get } from "./history.js";
import { POLL_MS, REGIONS_MAX } from "./limits.js";
import { ALL, type Log } from "./log.js";
import type { Settings } from "./settings.js";
import type { State, ViralAlert } from "./viral-alerts.js";

export interface Fallback {
  /** Regions that are followed. */
  ready: Set<string>;
  /** Looks at once: other regions are wanted, or something is missing. */
  refresh(): void;
  stop(): void;
}

/** Follows what `regions` returns until it is stopped, and tells how it goes; `end` is called when it may not. */
export function startFallback(
  settings: Settings,
  log: Log,
  regions: () => string[],
  tell: (state: State) => void,
  end: (error: Error) => void,
): Fallback {
  let { EventSource } = settings;
  let stopped = false;
  let refresh = (): void => {};

  /** Resolves when it is time to look, or when the browser has given up. */
  const stream = async (Source: NonNullable<typeof EventSource>, asked: string[]): Promise<void> => {
    const source = new Source(address(settings, asked, cursor(log, asked), await settings.token?.()));
    await new Promise<void>((resolve) => {
      refresh = resolve;
      source.onmessage = ({ data }) => log.accept(JSON.parse(String(data)) as ViralAlert);
      source.onerror = () => {
        if (source.readyState < 2) return;
        EventSource = undefined;
        resolve();
      };
    });
    source.close();
  };

  const run = async (): Promise<void> => {
    for (let failures = 0; !stopped; ) {
      let pause = POLL_MS * (0.5 + Math.random());
      try {
        const asked = regions();
        // Without a region there is still the question whether the service lets us in.
        await (asked[0] ? catchUp(settings, log, asked) : get(settings, [ALL], ""));
        if (stopped) return;
        failures = 0;
        fallback.ready = new Set(asked);
        const Source = asked[0] && !asked[REGIONS_MAX] ? EventSource : undefined;
        tell({ state: "open", transport: Source ? "eventsource" : "polling" });
        if (Source) {
          await stream(Source, asked);
          continue;
        }
      } catch (error) {
        if (stopped) return;
        if (error instanceof Unauthorized) return end(error);
        pause = backoff(failures++, POLL_MS);
        tell({ state: "waiting", retryInMs: pause });
      }
      await new Promise<void>((resolve) => {
        refresh = resolve;
        setTimeout(resolve, pause);
      });
    }
  };

  const fallback: Fallback = {
    ready: new Set(),
    refresh: () => refresh(),
    stop() {
      stopped = true;
      refresh();
    },
  };
  void run();
  return fallback;
}
