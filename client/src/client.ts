// Connects the parts for one tab: its regions and positions, the tabs that it shares with, and its page.

import { createGate, type Emit } from "./gate.js";
import { startHub } from "./hub.js";
import { HIDDEN_MS, KEEPALIVE_MS } from "./limits.js";
import { ALL } from "./log.js";
import type { News, Positions } from "./news.js";
import { watchPage } from "./page.js";
import type { Settings } from "./settings.js";
import { joinTabs, type Tabs } from "./tabs.js";
import { tokenFrom } from "./token.js";
import { ViralAlertsError, type Options, type State } from "./types.js";

export interface Client {
  readonly watched: Set<string>;
  state: State;
  /** The error that closed the client, if one did. */
  error: ViralAlertsError | undefined;
  watch(region: string): void;
  unwatch(region: string): void;
  close(): void;
}

function nameOf(region: string): string {
  const name = typeof region === "string" ? region.trim().toUpperCase() : "";
  if (!/^[A-Z][A-Z0-9-]{1,15}$/.test(name)) {
    throw RangeError(`invalid region "${region}": expected a letter and 1 to 15 letters, digits or hyphens`);
  }
  return name;
}

/** Returns the address of an option, with the scheme `ws:` or `wss:`, or `http:` or `https:`. */
function addressOf(option: "url" | "httpUrl", value: string | URL): string {
  const scheme = option === "url" ? "ws" : "http";
  try {
    // An address without a scheme is relative to the page.
    const { href } = new URL(value || "?", globalThis.location?.href);
    const address = scheme === "ws" ? href.replace(/^http/, scheme) : href;
    if (value && address.startsWith(scheme)) return address;
  } catch {}
  throw TypeError(`invalid option ${option} "${value}": expected an address such as ${scheme}s://example.com`);
}

export function startClient(given: Options, dispatch: Emit): Client {
  const { httpUrl, token, regions = [], share = true, WebSocket = globalThis.WebSocket } = given;
  // An invalid address throws here, not at the first attempt.
  const url = addressOf("url", given.url);
  if (typeof WebSocket !== "function") {
    throw TypeError("no WebSocket in this runtime: pass the option { WebSocket }, from the package ws");
  }
  const names = typeof regions === "string" ? [regions] : regions;
  if (typeof names?.[Symbol.iterator] !== "function") {
    throw TypeError(
      `invalid option regions "${regions}": expected a region, or an iterable of regions such as an array`,
    );
  }
  const isPage = !!globalThis.document;
  const settings: Settings = {
    EventSource: globalThis.EventSource,
    ...given,
    WebSocket,
    keepaliveMs: given.keepaliveMs ?? KEEPALIVE_MS,
    hiddenMs: given.hiddenMs ?? HIDDEN_MS,
    url,
    httpUrl: httpUrl && addressOf("httpUrl", httpUrl).replace(/\/$/, ""),
    token: token == null ? undefined : () => tokenFrom(token),
    overHttp: false,
  };
  const key = `viral-alerts ${url} ${share}`;
  const overHttpKey = `${key} http`;
  const shared = share && isPage && navigator.locks ? key : undefined;
  let { storage } = given;
  let saved: Positions = {};
  try {
    // In a page without permission to store, reading `sessionStorage` throws.
    if (storage === undefined && isPage) storage = sessionStorage;
    settings.overHttp = storage?.getItem(overHttpKey) === "1";
    const kept = Object.entries(JSON.parse(storage!.getItem(key)!) as Positions);
    // Another script may have written here.
    saved = Object.fromEntries(kept.filter(([, { epoch, seq }]) => epoch >= 0 && seq >= 0));
  } catch {}
  let tabs: Tabs | undefined;

  // If a listener closes the client, only the state `closed` follows.
  const emit: Emit = (type, detail) => {
    if (client.state.state !== "closed" || type === "state") dispatch(type, detail);
  };

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
  };

  const hear = (news: News): void => {
    gate.receive(news);
    save();
    if (news.state) tell(news.state);
    if (!news.error) return;
    const error = new ViralAlertsError(news.error);
    if (error.terminal) client.error = error;
    emit("error", error);
    if (error.terminal) client.close();
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

  const client: Client = {
    watched: gate.watched,
    state: { state: "connecting" },
    error: undefined,
    watch: (region) => gate.watch(nameOf(region)),
    unwatch(region) {
      gate.unwatch(nameOf(region));
      save();
    },
    close() {
      unwatchPage();
      leave({ state: "closed" });
    },
  };
  for (const region of names) client.watch(region);
  const unwatchPage = watchPage(
    settings.hiddenMs,
    () => leave({ state: "paused" }),
    resume,
    () => tabs?.offline(),
  );
  return client;
}
