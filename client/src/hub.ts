// Follows regions for all tabs: keeps one connection or the fallback, and recovers what the log misses.

import { backoff } from "./backoff.js";
import { createConnection, type Connection } from "./connection.js";
import { startFallback, type Fallback } from "./fallback.js";
import { catchUp, get, HttpError, known } from "./history.js";
import {
  ANSWER_MS,
  FALLBACK_MS,
  HEAL_MS,
  HTTP_TRIES,
  POLICY_MS,
  PROBE_AFTER_MS,
  RECONNECT_WITHIN_MS,
  REGIONS_MAX,
  RESTART_WITHIN_MS,
  ROTATE_AFTER_MS,
  TIMER_MS_MAX,
} from "./limits.js";
import { ALL, createLog } from "./log.js";
import type { Answer, News, Want } from "./news.js";
import type { Settings } from "./settings.js";
import { TokenError } from "./token.js";
import type { State } from "./types.js";

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
  /** Regions whose missing alerts may still arrive on their own. */
  const waiting = new Set<string>();
  let state: State = { state: "connecting" };
  /** The connection in use, and the one that is to replace it. */
  let current: Connection | undefined;
  let next: Connection | undefined;
  let fallback: Fallback | undefined;
  /** The timer that starts the fallback while attempts go on. */
  let patience: ReturnType<typeof setTimeout> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let within = settings.reconnectWithinMs ?? RECONNECT_WITHIN_MS;
  let rotateAfter = settings.rotateAfterMs ?? ROTATE_AFTER_MS;
  let failures = 0;
  /** The service closed with 1008: no event shortens the wait. */
  let held = false;
  /** A check for CORS is under way, or has reported it. */
  let explaining = false;
  /** Number of attempts. An attempt that finds a higher number has been abandoned. */
  let attempts = 0;
  let stopped = false;

  const tell = (now: State): void => emit({ state: (state = now) });

  /** Reports why no request could be sent. */
  const report = (error: unknown): void => emit({ error: { code: "connect", message: String(error) } });

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
    regions.forEach(log.begin);
    emit({ ready: { regions, positions: log.positions([ALL]) } });
  };

  /** Requests what is wanted and missing. */
  const work = (): void => {
    const regions = follow();
    for (const connection of [current, next]) {
      // A region that was left and is watched again starts anew, even if the service did not learn that it was left.
      for (const region of regions) if (!log.has(region)) connection?.acknowledged.delete(region);
      if (connection?.opened) void ask(connection);
    }
    fallback?.refresh();
  };

  /** Requests a region again if its missing alerts do not arrive on their own. */
  const heal = (region: string, tries: number): void => {
    if (waiting.has(region)) return;
    waiting.add(region);
    setTimeout(
      () => {
        waiting.delete(region);
        if (stopped || !log.isBehind(region)) return;
        stale.add(region);
        work();
      },
      HEAL_MS * 2 ** tries,
    );
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
    drop();
  };

  /** Checks whether CORS made a request fail: then the service answers, but the page may not read the answer. */
  const explain = async (): Promise<void> => {
    const page = globalThis.location?.origin;
    if (explaining || !page || new URL(httpUrl!).origin === page) return;
    explaining = true;
    let reached = false;
    try {
      await fetch(httpUrl!, { method: "HEAD", mode: "no-cors", signal: AbortSignal.timeout(ANSWER_MS) });
      reached = true;
      // The first failure may have been the network's.
      await get(settings, [ALL], "");
      explaining = false;
    } catch (error) {
      explaining = reached && error instanceof TypeError;
    }
    const message = `the page may not read ${httpUrl}: the template's parameter AllowedOrigins does not name ${page}`;
    if (explaining) emit({ error: { code: "cors", message } });
  };

  /**
   * Takes an error of HTTP. Stops the hub, and returns true, if the service refused the token or requires one. A 401
   * without the service's code may come from a captive portal, so a client without a token goes on. A 403 refuses only
   * a region.
   */
  const end = (error: unknown): boolean => {
    if (error instanceof TokenError) {
      if (!stopped) report(error);
    } else if (!(error instanceof HttpError)) void explain();
    else if (error.status === 401 && (token || error.code === "unauthorized")) {
      const reason = token ? "the token was refused" : "the service requires a token: pass the option token";
      const message = `${error.message}: ${reason}`;
      if (!stopped) {
        stop();
        emit({ error: { code: "unauthorized", message, terminal: true } });
      }
      return true;
    }
    return false;
  };

  /** Starts the fallback, which runs until there is a connection. */
  const fallBack = (): void => {
    if (httpUrl && !current) fallback ??= startFallback(settings, log, follow, tell, end);
  };

  /** Starts the fallback unless there is a connection soon. */
  const fallBackSoon = (): void => {
    patience ??= setTimeout(fallBack, settings.overHttp ? 0 : FALLBACK_MS * (1 - Math.random() / 4));
  };

  const schedule = (count: number, code?: number): void => {
    held = code === 1008;
    const window = code === 1012 ? Math.max(within, RESTART_WITHIN_MS) : within;
    const retryInMs = (held ? POLICY_MS : 0) + backoff(count, window);
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
    let socket;
    try {
      const value = await token?.();
      if (attempt !== attempts) return;
      // The browser's own error would contain the token. Source: RFC 6455, section 4.1; RFC 2616, section 2.2.
      if (value && !/^[\w!#$%&'*+.^`|~-]+$/.test(value)) {
        throw TypeError("the token has characters that a WebSocket handshake cannot carry");
      }
      socket = value ? new settings.WebSocket(url, ["viral-alerts", `bearer.${value}`]) : new settings.WebSocket(url);
    } catch (error) {
      // A later attempt reports its own error.
      if (attempt !== attempts) return;
      report(error);
      return failed();
    }
    const connection: Connection = (next = createConnection(
      socket,
      settings.keepaliveMs,
      () => ask(connection),
      log.accept,
      (code) => ended(connection, code),
    ));
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
    current?.close();
    fallback?.stop();
    clearTimeout(patience);
    next = fallback = patience = undefined;
    current = connection;
    failures = 0;
    clearTimeout(timer);
    timer = setTimeout(connect, Math.min(rotateAfter, TIMER_MS_MAX));
    tell({ state: "open", transport: "websocket" });
  };

  /**
   * Returns the next request and its regions: first those to leave, which makes room; then up to `max` to subscribe to;
   * then all, if a keepalive is due.
   */
  const due = ({ acknowledged, idle }: Connection, max: number): [type: string, asked: string[]] => {
    const regions = follow();
    const surplus = [...acknowledged].filter((region) => !regions.includes(region) && regions[0] !== ALL);
    if (surplus[0]) return ["unsubscribe_region", surplus.slice(0, REGIONS_MAX)];
    const missing = regions.filter((region) => !acknowledged.has(region)).slice(0, max);
    // One at a time: a region that did not fit in a shared answer may fit alone.
    const asked = missing[0] ? missing : [...stale].filter(log.has).slice(0, 1);
    return asked[0] ? ["subscribe_region", asked] : ["keepalive", idle ? regions : []];
  };

  /** Sends one request after the other until none is due. */
  const ask = async (connection: Connection): Promise<void> => {
    const { acknowledged } = connection;
    if (connection.busy) return;
    connection.busy = true;
    let tries = 0;
    let max = REGIONS_MAX;
    for (;;) {
      const [type, asked] = due(connection, max);
      if (!asked[0]) break;
      const frame = await connection.exchange({
        type,
        regions: asked,
        ...(asked.some(log.has) && { since: Object.fromEntries(known(log, asked)) }),
      });
      const final = frame.retryable === false;
      if (frame.positions) await subscribed(connection, asked, frame as Answer);
      else if (frame.type === "unsubscribed") for (const region of asked) acknowledged.delete(region);
      else if (frame.type === "kept" || (final && type === "keepalive")) {
        connection.idle = false;
        // A service that does not know the message gets new subscriptions instead.
        const named = final ? asked : [...(frame.behind ?? []), ...(frame.missing ?? [])];
        for (const region of named) acknowledged.delete(asked[0] === ALL ? ALL : region);
      } else {
        // An invalid position does not refuse its region.
        const refuses = final && !/^since/.test(frame.field!);
        if (refuses && asked[1]) {
          // Asked one by one, only the refused region fails.
          max = 1;
          continue;
        }
        if (final) emit({ error: frame });
        if (refuses) {
          refused.add(asked[0]!);
          if (stale.delete(asked[0]!)) log.giveUp(asked[0]!);
        } else
          await new Promise((resolve) =>
            setTimeout(resolve, frame.retry_after_ms || backoff(tries++, RECONNECT_WITHIN_MS)),
          );
      }
    }
    // Without regions there is nothing to compare: a ping keeps the connection open.
    if (connection.idle) connection.ping();
    connection.idle = connection.busy = false;
    if (connection === next) promote(connection);
  };

  const subscribed = async ({ acknowledged }: Connection, asked: string[], answer: Answer): Promise<void> => {
    within = settings.reconnectWithinMs ?? answer.reconnect_within_ms ?? within;
    rotateAfter = settings.rotateAfterMs ?? answer.rotate_after_ms ?? rotateAfter;
    for (const region of asked) {
      acknowledged.add(region);
      stale.delete(region);
    }
    const open = log.apply(answer, asked, !!httpUrl || !!asked[1] || asked[0] === ALL);
    if (!httpUrl) for (const region of open) stale.add(region);
    else {
      try {
        await catchUp(settings, log, open);
      } catch (error) {
        if (!end(error)) for (const region of open) heal(region, HTTP_TRIES);
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
      schedule(Infinity, held ? 1008 : undefined);
    },
    stop,
  };
}
