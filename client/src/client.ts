// Connects the parts for one tab: its regions and positions, the tabs that it shares with, and its page.

import { accepts } from "./accept.js";
import { createGate, type Emit } from "./gate.js";
import { startHub } from "./hub.js";
import { HIDDEN_MS, INTERVAL_MS_MIN } from "./limits.js";
import { ALL } from "./log.js";
import type { News, Positions } from "./news.js";
import { checkNumbers } from "./numbers.js";
import { watchPage } from "./page.js";
import { nameOf } from "./region.js";
import type { Settings } from "./settings.js";
import { joinTabs, type Tabs } from "./tabs.js";
import { tokenFrom } from "./token.js";
import { ViralAlertsError, type EventMap, type Options, type State, type ViralAlert } from "./types.js";

/** What an application calls and reads. */
export interface Client {
  watched: readonly string[];
  state: State;
  counts: Partial<Record<keyof EventMap, number>>;
  ready: () => Promise<void>;
  watch: (region: string) => void;
  unwatch: (region: string) => void;
  reconnect: () => void;
  close: () => void;
}

/** Returns the address of an option, with the scheme `ws:` or `wss:`, or `http:` or `https:`. */
function addressOf(option: "url" | "httpUrl", value: string | URL | undefined): string {
  const scheme = option === "url" ? "ws" : "http";
  try {
    // An address without a scheme is relative to the page.
    const address = new URL(value!, globalThis.location?.href).href.replace(/^http/, scheme);
    if (value && address.startsWith(scheme)) return address;
  } catch {}
  throw TypeError(`invalid ${option} "${value}": expected ${scheme}s://...`);
}

/**
 * Makes `target` a client that hands its events to `dispatch`, those of a region a second time with the region in the
 * type.
 */
export function startClient(
  target: object,
  given: Options,
  dispatch: (type: string, detail: unknown) => unknown,
): void {
  const {
    httpUrl,
    token,
    regions = [],
    share = true,
    WebSocket = globalThis.WebSocket,
  } = given;
  // An invalid address throws here, not at the first attempt.
  const url = addressOf("url", given.url);
  if (typeof WebSocket !== "function") {
    throw TypeError("no WebSocket: pass the option WebSocket");
  }
  checkNumbers(given, {
    keepaliveMs: INTERVAL_MS_MIN,
    rotateAfterMs: INTERVAL_MS_MIN,
    hiddenMs: 0,
    reconnectWithinMs: 0,
  });
  const { document } = globalThis;
  const settings: Settings = {
    ...given,
    WebSocket,
    url,
    httpUrl: httpUrl && addressOf("httpUrl", httpUrl).replace(/\/$/, ""),
    token: token == null ? undefined : () => tokenFrom(token),
    overHttp: false,
  };
  const key = `viral-alerts ${url} ${share}`;
  const overHttpKey = `${key} http`;
  const shared = share && document && navigator.locks ? key : undefined;
  let { storage } = given;
  let saved: Positions = {};
  try {
    // In a page without permission to store, reading `sessionStorage` throws.
    if (storage === undefined && document) storage = sessionStorage;
    settings.overHttp = !!storage?.getItem(overHttpKey);
    const kept = Object.entries(JSON.parse(storage!.getItem(key)!) as Positions);
    // Another script may have written here.
    saved = Object.fromEntries(kept.filter(([, { epoch, seq }]) => epoch >= 0 && seq >= 0));
  } catch {}
  let tabs: Tabs | undefined;
  /** The error that closed the client, if one did. */
  let failure: ViralAlertsError | undefined;
  /** Called when a region begins, is refused, or the client closes. */
  const waiters: (() => void)[] = [];
  const isClosed = (): boolean => client.state.state === "closed";

  const emit: Emit = (type, detail) => {
    // If a listener closes the client, only the state `closed` follows.
    if (type !== "state" && isClosed()) return;
    if (type === "alert" && !accepts(given.accept, detail as ViralAlert)) return;
    client.counts[type] = (client.counts[type] ?? 0) + 1;
    dispatch(type, detail);
    const { region } = detail as { region?: string };
    if (region) dispatch(`${type}:${region}`, detail);
  };

  const wake = (): void => waiters.splice(0).forEach((waiter) => waiter());

  /** Tells the leader which regions this tab watches, and asks for `regions` from their positions on. */
  const ask = (regions: string[]): void =>
    tabs?.ask({ regions: [...gate.watched], positions: gate.positions(regions) });

  const gate = createGate(saved, emit, ask);

  const store = (name: string, text: string): void => {
    try {
      storage?.setItem(name, text);
    } catch {}
  };
  const save = (): void => store(key, JSON.stringify(saved));

  const tell = (state: State): void => {
    if (JSON.stringify(state) === JSON.stringify(client.state)) return;
    client.state = state;
    if (state.state === "open") {
      settings.overHttp = state.transport !== "websocket";
      store(overHttpKey, settings.overHttp ? "1" : "");
    }
    emit("state", state);
    wake();
  };

  const hear = (news: News): void => {
    gate.receive(news);
    save();
    if (news.state) tell(news.state);
    if (news.error) {
      const error = new ViralAlertsError(news.error);
      emit("error", error);
      if (error.terminal) {
        failure = error;
        client.close();
      }
    }
    wake();
  };

  const resume = (): void => {
    if (tabs) tabs.wake();
    else {
      tabs = joinTabs(
        shared,
        (broadcast) => startHub(settings, broadcast),
        hear,
        () => ask([ALL]),
      );
    }
  };

  const leave = (state: State): void => {
    tabs?.leave();
    tabs = undefined;
    tell(state);
  };

  const list = (): void => {
    client.watched = [...gate.watched].sort();
  };

  const client: Client = Object.assign(target, {
    watched: [],
    state: { state: "connecting" } as State,
    counts: {},
    async ready() {
      while (gate.pending.size && !isClosed()) await new Promise<void>((resolve) => waiters.push(resolve));
      if (isClosed()) throw failure ?? new ViralAlertsError({ code: "closed" });
    },
    watch(region: string) {
      gate.watch(nameOf(region));
      list();
    },
    unwatch(region: string) {
      gate.unwatch(nameOf(region));
      list();
      save();
    },
    reconnect() {
      if (!isClosed()) resume();
    },
    close() {
      unwatchPage();
      leave({ state: "closed" });
    },
  });
  for (const region of typeof regions === "object" ? regions : [regions]) client.watch(region);
  const unwatchPage = watchPage(
    given.hiddenMs ?? HIDDEN_MS,
    () => leave({ state: "paused" }),
    resume,
    () => tabs?.offline(),
  );
}
