// Alerts without a WebSocket: an EventSource, or polling if that fails too.

import { backoff } from "./backoff.js";
import { address, catchUp, cursor, get } from "./history.js";
import { ANSWER_MS, POLL_MS, REGIONS_MAX } from "./limits.js";
import { ALL, type Log } from "./log.js";
import type { Settings } from "./settings.js";
import type { EventSourceLike, State, ViralAlert } from "./types.js";

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
  // An EventSource sends no headers, and a token in the address would end up in logs.
  let EventSource = settings.token ? undefined : settings.EventSource;
  let stopped = false;
  /** Whether to poll again at once. May be set while a poll is under way. */
  let again = false;
  let wake = (): void => {};
  let timer: ReturnType<typeof setTimeout> | undefined;

  const run = async (): Promise<void> => {
    for (let failures = 0; !stopped;) {
      let pause = POLL_MS * (0.5 + Math.random());
      let source: EventSourceLike | undefined;
      again = false;
      try {
        const asked = regions();
        // Without regions, a request still shows whether the service accepts this client.
        await (asked[0] ? catchUp(settings, log, asked) : get(settings, [ALL], ""));
        if (stopped) return;
        failures = 0;
        const Source = asked[0] && !asked[REGIONS_MAX] ? EventSource : undefined;
        tell({ state: "open", transport: Source ? "eventsource" : "polling" });
        if (Source && !again) source = new Source(address(settings, asked, cursor(log, asked)));
      } catch (error) {
        if (stopped || end(error)) return;
        pause = backoff(failures++, POLL_MS);
        tell({ state: "waiting", retryInMs: pause });
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (again) resolve();
        else if (source) listen(source, resolve);
        else timer = setTimeout(resolve, pause);
      });
      clearTimeout(timer);
      source?.close();
    }
  };

  /** Calls `done` when the browser gives up, or fails twice in a row. */
  const listen = (source: EventSourceLike, done: () => void): void => {
    let failed = false;
    const giveUp = (): void => {
      EventSource = undefined;
      done();
    };
    /** Gives up if nothing opens in time: a proxy that buffers event streams reports no error. */
    const expect = (): void => {
      clearTimeout(timer);
      timer = setTimeout(giveUp, ANSWER_MS);
    };
    expect();
    source.onopen = () => {
      failed = false;
      clearTimeout(timer);
    };
    source.onmessage = ({ data }) => log.accept(JSON.parse(String(data)) as ViralAlert);
    // The end of a response counts as an error. The browser then opens the next one.
    source.onerror = () => {
      expect();
      if (source.readyState > 1) giveUp();
      else if (failed) done();
      failed = true;
    };
  };

  const refresh = (): void => {
    again = true;
    wake();
  };

  void run();
  return {
    refresh,
    stop() {
      stopped = true;
      refresh();
    },
  };
}
