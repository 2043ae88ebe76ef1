// Follows regions for all tabs: keeps one connection or the fallback, and recovers what the log misses.

import { backoff } from "./backoff.js";
import { createConnection, type Connection } from "./connection.js";
import { startFallback, type Fallback } from "./fallback.js";
import { catchUp, known } from "./history.js";
import {
  ADVICE_MS_MAX,
  FALLBACK_MS,
  INTERVAL_MS_MIN,
  POLICY_MS,
  POLL_MS,
  PROBE_AFTER_MS,
  RECONNECT_WITHIN_MS,
  REGIONS_MAX,
  RESTART_WITHIN_MS,
  ROTATE_AFTER_MS,
  ROTATE_AFTER_MS_MAX,
  SURPLUS_MAX,
} from "./limits.js";
import { ALL, createLog } from "./log.js";
import type { Answer, News, Want } from "./news.js";
import { clamp } from "./numbers.js";
import type { Settings } from "./settings.js";
import type { State, ViralAlertsError } from "./types.js";

export interface Hub {
  /** Takes the request of a tab. Returns whether the tab is new. */
  serve(tab: string, want: Want): boolean;
  /** The tab is gone. */
  forget(tab: string): void;
  /** The network may be back, or a page is shown: reconnects, or checks a silent connection. */
  wake(): void;
  /** The network is gone. Browsers are sometimes wrong about that, so attempts go on at the longest backoff. */
  offline(): void;
  stop(): void;
}

export function startHub(settings: Settings, emit: (news: News) => void): Hub {
  const { httpUrl, token, url } = settings;
  /** Regions by the tab that watches them. */
  const wants = new Map<string, string[]>();
  /** Regions that the service refused. */
  const refused = new Set<string>();
  /** Subscribed regions that need a new request because alerts are missing. */
  const stale = new Set<string>();
  /** Regions whose missing alerts may still arrive on their own, with the timers that end the wait. */
  const waiting = new Map<string, ReturnType<typeof setTimeout>>();
  let state: State | undefined;
  /** The connection in use, and the one that is to replace it. */
  let current: Connection | undefined;
  let next: Connection | undefined;
  let fallback: Fallback | undefined;
  /** The timer that starts the fallback while attempts go on. */
  let patience: ReturnType<typeof setTimeout> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** The newest answer, for its advice. */
  let advice: Partial<Answer> = {};
  /** Attempts to connect, and recoveries over HTTP, that have failed in a row. */
  let failures = 0;
  let unread = 0;
  /** The service closed with 1008: no event shortens the wait. */
  let held = false;
  /** An HTTP request failed without an answer, and the application was told. */
  let hinted = false;
  /** Number of attempts. An attempt that finds a higher number has been abandoned. */
  let attempts = 0;
  let stopped = false;

  const tell = (now: State): void => emit({ state: (state = now) });

  /** Reports why no request could be sent. */
  const report = (error: unknown): void => emit({ error: { code: "connect", message: (error as Error).message } });

  /** Returns the regions that any tab watches, without the refused ones. */
  const wanted = (): string[] => {
    const regions = new Set([...wants.values()].flat());
    // A refused region that no tab watches any more may be tried again later.
    for (const region of refused) if (!regions.delete(region)) refused.delete(region);
    return [...regions];
  };

  /** Returns the regions to follow: only `ALL` if a tab watches it. Forgets the positions of others. */
  const follow = (): string[] => {
    const regions = wanted().includes(ALL) ? [ALL] : wanted();
    log.keep(regions);
    return regions;
  };

  /** Tells the tabs which regions have a beginning: nothing after it is left out, whatever the connection does. */
  const announce = (): void => {
    const regions = wanted().filter((region) => log.has(region) || log.has(ALL));
    // The position stays when no tab watches ALL any more.
    for (const region of regions) log.begin(region);
    emit({ ready: { regions, refused: [...refused], positions: log.positions([ALL]) } });
  };

  /** Requests what is wanted and missing. */
  const work = (): void => {
    const regions = follow();
    for (const connection of [current, next]) {
      // A region that was left and is watched again starts anew, even if the service did not learn that it was left.
      for (const region of regions) if (!log.has(region)) connection?.acknowledged.delete(region);
      if (connection?.heardAt) ask(connection);
    }
    fallback?.refresh();
  };

  /** Requests a region again if its missing alerts do not arrive on their own. */
  const heal = (region: string, waitMs: number): void => {
    if (stopped || waiting.has(region)) return;
    const ask = (): void => {
      waiting.delete(region);
      if (!log.isBehind(region)) return;
      stale.add(region);
      work();
    };
    waiting.set(region, setTimeout(ask, waitMs));
  };

  const log = createLog(emit, heal, announce);

  const drop = (): void => {
    attempts++;
    clearTimeout(timer);
    clearTimeout(patience);
    current?.close();
    next?.close();
    fallback?.stop();
    current = next = fallback = patience = undefined;
  };

  const stop = (): void => {
    stopped = true;
    waiting.forEach(clearTimeout);
    drop();
  };

  /**
   * Takes an error of HTTP. Stops the hub, and returns true, if the service refused the token or requires one. A 401
   * without the service's code may come from a captive portal, so a client without a token goes on. A 403 refuses only
   * a region.
   */
  const end = (error: unknown): boolean => {
    if (stopped) return stopped;
    const { code, status } = error as ViralAlertsError;
    const page = globalThis.location?.origin;
    if (code === "connect") report(error);
    else if (!status && page && !hinted && new URL(httpUrl!).origin !== page) {
      hinted = true;
      emit({ error: { code: "http", message: `cannot read ${httpUrl}: does AllowedOrigins name ${page}?` } });
    } else if (status === 401 && (token || code === "unauthorized")) {
      stop();
      const reason = `token ${token ? "refused" : "required"}`;
      emit({ error: { code: "unauthorized", message: reason, terminal: true } });
    }
    return stopped;
  };

  /** Starts the fallback, which runs until there is a connection. */
  const fallBack = (): void => {
    if (httpUrl && !current) fallback ??= startFallback(settings, log, wanted, tell, end);
  };

  /** Starts the fallback unless there is a connection soon. */
  const fallBackSoon = (): void => {
    patience ??= setTimeout(fallBack, settings.overHttp ? 0 : FALLBACK_MS * (1 - Math.random() / 4));
  };

  const schedule = (count: number, code?: number | false): void => {
    held = code === 1008;
    const shortest = code === 1012 ? RESTART_WITHIN_MS : 0;
    const within = settings.reconnectWithinMs ?? advice.reconnect_within_ms ?? RECONNECT_WITHIN_MS;
    const retryInMs = (held ? POLICY_MS : 0) + backoff(count, clamp(shortest, within, ADVICE_MS_MAX));
    if (!current && !fallback) tell(count < Infinity ? { state: "waiting", retryInMs } : { state: "offline" });
    clearTimeout(timer);
    timer = setTimeout(connect, retryInMs);
  };

  /** Opens a connection, which then replaces the current one. */
  const connect = async (): Promise<void> => {
    if (stopped) return;
    const attempt = ++attempts;
    held = false;
    clearTimeout(timer);
    next?.close();
    next = undefined;
    if (!current) {
      if (!fallback) tell({ state: "connecting" });
      fallBackSoon();
    }
    try {
      const value = await token?.();
      if (attempt !== attempts) return;
      const connection: Connection = (next = createConnection(
        new settings.WebSocket(url, value ? ["viral-alerts", `bearer.${value}`] : []),
        settings.keepaliveMs,
        () => ask(connection),
        log.admit,
        (code) => ended(connection, code),
      ));
    } catch (error) {
      // A later attempt reports its own error.
      if (attempt !== attempts) return;
      report(error);
      failed();
    }
  };

  const ended = (connection: Connection, code?: number): void => {
    if (connection !== current) return failed(code);
    current = undefined;
    if (next) fallBackSoon();
    else schedule(failures++, code);
  };

  /** An attempt failed. */
  const failed = (code?: number): void => {
    next = undefined;
    schedule(failures++, code);
    // A browser does not say why a handshake failed. Over HTTP the client learns whether the token was refused.
    if (token) fallBack();
  };

  /** The new connection is subscribed to everything: closes what was before. */
  const promote = (connection: Connection): void => {
    next = undefined;
    drop();
    current = connection;
    failures = 0;
    const rotateAfter = settings.rotateAfterMs ?? advice.rotate_after_ms ?? ROTATE_AFTER_MS;
    timer = setTimeout(connect, clamp(INTERVAL_MS_MIN, rotateAfter, ROTATE_AFTER_MS_MAX));
    tell({ state: "open", transport: "websocket" });
  };

  /** Sends requests, unless that is under way. An answer that is not as promised ends the connection. */
  const ask = (connection: Connection): void => {
    if (!connection.busy) request(connection).catch(connection.end);
  };

  /** Sends one request after the other until none is due. */
  const request = async (connection: Connection): Promise<void> => {
    const { acknowledged } = connection;
    let tries = 0;
    connection.busy = true;
    for (let wait = 0, max = REGIONS_MAX; ; ) {
      await connection.free(wait);
      const regions = follow();
      const missing = regions.filter((region) => !acknowledged.has(region));
      // What ALL covers costs nothing, and may soon be asked for again.
      const surplus = [...acknowledged].filter((region) => !regions.includes(region));
      let type = "subscribe_region";
      let asked = missing.slice(0, max);
      if (surplus[regions[0] === ALL ? SURPLUS_MAX : 0]) {
        // Leaving makes room.
        type = "unsubscribe_region";
        asked = surplus.slice(0, REGIONS_MAX);
        // One at a time: a region that did not fit in a shared answer may fit alone.
      } else if (!asked[0]) asked = [...stale].filter(log.has).slice(0, 1);
      if (!asked[0] && connection.idle) {
        type = "keepalive";
        asked = regions;
      }
      if (!asked[0]) break;
      const frame = await connection.exchange({
        type,
        regions: asked,
        ...(asked.some(log.has) && { since: Object.fromEntries(known(log, asked)) }),
      });
      const final = frame.retryable === false;
      const isKept = frame.type === "kept";
      // An invalid position does not refuse its region.
      const refuses = final && !/^since/.test(frame.field!);
      wait = 0;
      max = REGIONS_MAX;
      if (frame.positions) {
        advice = frame;
        for (const region of asked) {
          acknowledged.add(region);
          stale.delete(region);
        }
        await recover(log.apply(frame as Answer, asked, !!httpUrl || !!asked[1] || asked[0] === ALL));
      } else if (isKept || frame.type === "unsubscribed" || (final && type !== "subscribe_region")) {
        connection.idle &&= type !== "keepalive";
        // A service that does not know the message gets new subscriptions instead.
        const named = isKept ? [...(frame.behind ?? []), ...(frame.missing ?? [])] : asked;
        for (const region of named) acknowledged.delete(isKept && asked[0] === ALL ? ALL : region);
        // Asked for in ever smaller parts, only the refused region fails.
      } else if (refuses && asked[1]) max = asked.length >> 1;
      else {
        if (final) emit({ error: frame });
        if (refuses) {
          refused.add(asked[0]!);
          announce();
          if (stale.delete(asked[0]!)) log.giveUp(asked[0]!);
        } else wait = clamp(0, frame.retry_after_ms || backoff(tries++, RECONNECT_WITHIN_MS), ADVICE_MS_MAX);
      }
    }
    // Without regions there is nothing to compare: a ping keeps the connection open.
    if (connection.idle) connection.ping();
    connection.idle = connection.busy = false;
    if (connection === next) promote(connection);
  };

  /** Recovers what an answer did not: over HTTP, or by asking for each region alone. */
  const recover = async (open: string[]): Promise<void> => {
    if (!httpUrl) for (const region of open) stale.add(region);
    else if (open[0]) {
      try {
        await catchUp(settings, log, open);
        unread = 0;
      } catch (error) {
        if (end(error)) return;
        const { status } = error as ViralAlertsError;
        const wait = backoff(unread++, POLL_MS);
        for (const region of open) {
          // What cannot be read now stays in the log, unless the service says that it may not be read.
          if (status! < 500 && status !== 429) log.fail(region);
          heal(region, wait);
        }
      }
    }
  };

  // The application first adds its listeners.
  queueMicrotask(connect);
  return {
    serve(tab, { regions, positions }) {
      const isNew = !wants.has(tab);
      wants.set(tab, regions);
      // To a tab that follows ALL, a region without a position is a new one.
      for (const region in { ...(positions[ALL] && log.positions([ALL])), ...positions }) {
        if (log.rewind(region, positions[region] ?? positions[ALL]!)) stale.add(region);
      }
      emit({ state });
      announce();
      work();
      return isNew;
    },
    forget(tab) {
      wants.delete(tab);
      work();
    },
    wake() {
      if (!current) {
        if (!next && !held) void connect();
        // `abs`: the clock may have been set back.
      } else if (Math.abs(Date.now() - current.heardAt) > PROBE_AFTER_MS) current.ping();
    },
    offline() {
      drop();
      schedule(Infinity, held && 1008);
    },
    stop,
  };
}
