// The service of docs/protocol.md, in memory and in virtual time, with faults on request.

import type { Position, RemovedAlert, ViralAlert, WebSocketLike } from "../src/viral-alerts.js";

/** Latency of every message and request, in milliseconds. */
export const LATENCY = 10;
const ANSWER_BYTES_MAX = 32 * 1024;
const REGIONS_MAX = 25;
/** Regions of one connection, and so of a keepalive. */
const SUBSCRIPTIONS_MAX = 100;
/** Positions in `since`, in a cursor, and in an answer. */
const POSITIONS_MAX = 300;
const CURSOR_BYTES_MAX = 4_096;
const PARAMETERS = ["region", "after", "limit"];

/** An entry of a log. */
type Logged = ViralAlert | RemovedAlert;

interface Log {
  epoch: number;
  alerts: Logged[];
  /** Alerts up to this number are forgotten. */
  forgotten: number;
}

interface History {
  alerts: ViralAlert[];
  removed?: RemovedAlert[];
  positions: Record<string, Position>;
  not_recovered?: string[];
  after: string;
  more: boolean;
  recovered: boolean;
}

/** What a client sent. */
export interface Message {
  type: string;
  regions: string[];
  since?: Record<string, Position>;
}

/** A connection, with what its far side can do on either leg. */
export interface Peer extends WebSocketLike {
  /** Regions to which the connection is subscribed. */
  readonly regions: ReadonlySet<string>;
  /** Loses the subscriptions to these regions. */
  loses(...regions: string[]): void;
  /** The service pushes a frame, which arrives at once without a delay. */
  pushes(frame: object, delay: number): void;
  /** The connection ends from the other side; 1006 is what a browser says where no close frame came. */
  ends(code?: number): void;
}

/**
 * The service. `answer` decides about the WebSocket API, `fetch` about HTTP. Connections and their faults are those of
 * both legs, if an `AppSync` is beside it.
 */
export class Service {
  /** Open connections. */
  readonly sockets = new Set<Peer>();
  /** Everything that clients sent to the WebSocket API, oldest first. */
  readonly messages: Message[] = [];
  /** Every frame that went over the WebSocket API, in either direction. */
  readonly frames: { type: string; bytes: number }[] = [];
  readonly requests: URL[] = [];
  /**
   * All that clients said on either leg and over HTTP, in short: `subscribe_region PL after PL 3`, `subscribe PL` to
   * the Event API, `GET PL after PL 3`.
   */
  readonly said: string[] = [];
  /** Addresses of all handshakes. */
  readonly handshakes: string[] = [];
  /** Subprotocols that each handshake offers. */
  readonly offers: (string[] | undefined)[] = [];
  /** Handshakes are refused. */
  refuses = false;
  /** Connections are silent: nothing is answered and nothing closed. */
  silent = false;
  /** Connections open, and end when the client says something. */
  hangsUp = false;
  /** The HTTP status instead of 200. */
  status = 200;
  /** The body of such an answer. */
  body: object = {};
  /** The page may not read what HTTP answers. */
  blocksPages = false;
  /** Regions that the service refuses. */
  readonly forbidden = new Set<string>();
  /** The answer of the WebSocket API to the next message, instead of the usual one. */
  nextAnswer: object | undefined;
  /** The next subscription is made, and its answer is lost. */
  losesAnswer = false;
  /** Whether the service knows the message `keepalive`, as those before it do not. */
  knowsKeepalive = true;
  /** What answers tell of an Event API. */
  events: { url: string; host: string; share: number } | undefined;
  /** Opens a connection where the address is not that of the WebSocket API. */
  elsewhere: (url: string, protocols?: string[]) => Peer | undefined = () => undefined;
  /** Regions whose missed alerts an answer carries. */
  recoveredRegionsMax = REGIONS_MAX;
  advice = { reconnect_within_ms: 5_000, rotate_after_ms: 6_600_000 };
  /** Decides how often a push arrives, and how long each takes. */
  deliver: (alert: ViralAlert) => number[] = () => [LATENCY];
  epoch = 1_795_000_000_000;
  readonly #logs = new Map<string, Log>();

  publish(region: string, title = "title"): ViralAlert {
    const log = this.#logs.get(region) ?? { epoch: this.epoch, alerts: [], forgotten: 0 };
    this.#logs.set(region, log);
    const alert: ViralAlert = {
      type: "viral_alert",
      region,
      seq: log.alerts.length + 1,
      epoch: log.epoch,
      video: { id: "v", title, thumbnail: null, score: 97 },
      timestamp: "2026-11-18T11:06:40.000Z",
    };
    log.alerts.push(alert);
    const trending = {
      event: "new_trending",
      region,
      seq: alert.seq,
      epoch: alert.epoch,
      video_id: "v",
      title,
      ts: 1_795_000_000,
    };
    for (const socket of this.sockets) {
      if (!(socket instanceof FakeSocket)) continue;
      if (socket.region === region) socket.pushes(trending, LATENCY);
      if (!socket.regions.has(region) && !socket.regions.has("ALL")) continue;
      for (const delay of this.deliver(alert)) socket.pushes(alert, delay);
    }
    return alert;
  }

  /** Publishes to a region without subscribers: the alert goes to every connection. */
  publishToEveryone(region: string): ViralAlert {
    const alert = this.publish(region);
    for (const socket of this.sockets) {
      for (const delay of this.deliver(alert)) socket.pushes({ ...alert, everyone: true }, delay);
    }
    return alert;
  }

  /** Takes an alert back, and pushes the removal to the connections in `told`. */
  remove(region: string, seq: number, told = [...this.sockets]): RemovedAlert {
    const { epoch, alerts } = this.#logs.get(region)!;
    const removed: RemovedAlert = { type: "alert_removed", region, seq, epoch, id: `${region}-${seq}` };
    alerts[seq - 1] = removed;
    for (const socket of told) socket.pushes(removed, LATENCY);
    return removed;
  }

  /** Forgets all alerts but the newest `kept`. */
  forget(region: string, kept: number): void {
    const log = this.#logs.get(region)!;
    log.forgotten = log.alerts.length - kept;
  }

  /** Loses the tables: the next alerts begin a new log. */
  reset(): void {
    this.#logs.clear();
    this.epoch += 1_000;
  }

  /** Loses the subscriptions of all connections to these regions, or to all. */
  loseSubscriptions(...regions: string[]): void {
    for (const socket of this.sockets) socket.loses(...(regions[0] ? regions : socket.regions));
  }

  answerIsLost(): boolean {
    const { losesAnswer } = this;
    this.losesAnswer = false;
    return losesAnswer;
  }

  /** All connections end. */
  cut(code?: number): void {
    for (const socket of [...this.sockets]) socket.ends(code);
  }

  head(region: string): Position {
    const log = this.#logs.get(region);
    return log ? { epoch: log.epoch, seq: log.alerts.length } : { epoch: 0, seq: 0 };
  }

  /**
   * The regions that are meant; under `ALL` those that the client names, then those that have a log, by name, as far as
   * they have a place.
   */
  #regions(names: string[], since: Record<string, Position> = {}): string[] {
    if (!names.includes("ALL")) return names;
    return [...new Set([...names, ...Object.keys(since).sort(), ...[...this.#logs.keys()].sort()])]
      .filter((name) => name !== "ALL")
      .slice(0, POSITIONS_MAX);
  }

  /** Returns what follows a position, or `undefined` if the log cannot tell. */
  #after(region: string, since: Position): Logged[] | undefined {
    const log = this.#logs.get(region);
    if (!log) return since.epoch ? undefined : [];
    if (since.epoch && since.epoch !== log.epoch) return undefined;
    return since.seq < log.forgotten ? undefined : log.alerts.slice(since.seq);
  }

  answer({ type, regions, since }: Message, socket: FakeSocket): object {
    if (type === "unsubscribe_region") {
      for (const region of regions) socket.regions.delete(region);
      return { type: "unsubscribed", regions };
    }
    if (socket.isMarkedClosed) return { ...refusal(), code: "connection_closed" };
    if (type === "keepalive" && !this.knowsKeepalive) return { ...refusal("type"), code: "unknown_type" };
    if (Object.keys(since ?? {}).length > POSITIONS_MAX) return refusal("since");
    if (regions.length > (type === "keepalive" ? SUBSCRIPTIONS_MAX : REGIONS_MAX)) return refusal("regions");
    if (regions.some((region) => this.forbidden.has(region))) return { ...refusal("regions"), code: "forbidden" };
    if (type === "keepalive") return this.#kept(regions, since ?? {}, socket);
    if (new Set([...socket.regions, ...regions]).size > SUBSCRIPTIONS_MAX)
      return { ...refusal(), code: "limit_reached" };
    for (const region of regions) socket.regions.add(region);
    const names = this.#regions(regions, since);
    const answer = { type: "subscribed", regions, positions: this.#heads(names), ...this.advice, ...this.#told };
    if (!since) return answer;
    const alerts: Logged[] = [];
    const not_recovered: string[] = [];
    for (const name of names) {
      const from = since[name] ?? (regions.includes("ALL") ? { epoch: 0, seq: 0 } : undefined);
      const missed = from && this.#after(name, from);
      if (!from) continue;
      const room = new Set(alerts.map(({ region }) => region)).size < this.recoveredRegionsMax || !missed?.length;
      if (missed && room && JSON.stringify([...alerts, ...missed]).length < ANSWER_BYTES_MAX) alerts.push(...missed);
      else not_recovered.push(name);
    }
    return {
      ...answer,
      ...parts(alerts),
      recovered: !not_recovered.length,
      ...(not_recovered.length && { not_recovered }),
    };
  }

  /** The answer to a keepalive: compares positions, and what the connection is subscribed to. */
  #kept(regions: string[], since: Record<string, Position>, socket: FakeSocket): object {
    const behind = this.#regions(regions, since).filter((name) => {
      const from = since[name] ?? (regions.includes("ALL") ? { epoch: 0, seq: 0 } : undefined);
      const head = this.head(name);
      return from && (from.epoch !== head.epoch || from.seq < head.seq);
    });
    const missing = regions.filter((region) => !socket.regions.has(region));
    return { type: "kept", ...(behind.length && { behind }), ...(missing.length && { missing }) };
  }

  get #told(): object {
    return this.events ? { events: this.events } : {};
  }

  #heads(names: string[]): Record<string, Position> {
    return Object.fromEntries(names.map((name) => [name, this.head(name)]));
  }

  /** `GET /alerts`. */
  readonly fetch = async (input: string | URL | Request, { headers }: RequestInit = {}): Promise<Response> => {
    // Throws where one cannot be sent.
    new Headers(headers);
    const url = new URL(String(input));
    const { region, after } = Object.fromEntries(url.searchParams);
    this.requests.push(url);
    this.said.push(`GET ${region}${afterOf(parseCursor(after ?? ""))}`);
    await new Promise((resolve) => setTimeout(resolve, LATENCY));
    const answer = this.#page(url);
    if (!answer) throw new TypeError("Failed to fetch");
    return answer;
  };

  /** The answer to a request, or `undefined` if it fails. */
  #page(url: URL): Response | undefined {
    if (this.status === 0 || this.blocksPages) return undefined;
    if (this.status !== 200) return Response.json(this.body, { status: this.status });
    const forbids = url.searchParams.get("region")!.split(",").some((region) => this.forbidden.has(region));
    if (forbids) return Response.json({ error: { code: "forbidden" } }, { status: 403 });
    const answer = this.history(url);
    return answer ? Response.json(answer) : new Response("{}", { status: 400 });
  }

  /** The first of the regions, as many as a cursor can name, from the client's positions to the heads. */
  #named(regions: string[], after: Record<string, Position>): string[] {
    let left = CURSOR_BYTES_MAX;
    const end = regions.findIndex((name) => {
      const entry = (position?: Position): number => (position ? cursorOf({ [name]: position }).length + 1 : 0);
      left -= Math.max(entry(this.head(name)), entry(after[name]));
      return left < 0;
    });
    return end < 0 ? regions : regions.slice(0, end);
  }

  /** The answer to `GET /alerts`, unless it is refused. */
  history({ searchParams }: URL): History | undefined {
    const asked = searchParams.get("region")!.split(",");
    const cursor = searchParams.get("after");
    const after = parseCursor(cursor ?? "");
    const unknown = [...searchParams.keys()].some((name) => !PARAMETERS.includes(name));
    if (unknown || asked.length > REGIONS_MAX || Object.keys(after).length > POSITIONS_MAX) return undefined;
    const regions = this.#regions(asked, after);
    const names = this.#named(regions, after);
    const share = Math.ceil(Number(searchParams.get("limit") ?? 100) / names.length);
    const answer = {
      alerts: [] as Logged[],
      positions: this.#heads(names),
      not_recovered: [] as string[],
      more: false,
    };
    for (const name of names) {
      const from = after[name];
      if (!cursor) {
        answer.alerts.push(...(this.#logs.get(name)?.alerts.slice(-share) ?? []));
        continue;
      }
      const missed = from || asked.includes("ALL") ? this.#after(name, from ?? { epoch: 0, seq: 0 }) : [];
      if (!missed) answer.not_recovered.push(name);
      else {
        const page = missed.slice(0, 100 - answer.alerts.length);
        answer.alerts.push(...page);
        if (page.length === missed.length) continue;
        answer.more = true;
        answer.positions[name] = { epoch: this.head(name).epoch, seq: (from?.seq ?? 0) + page.length };
      }
    }
    return {
      ...answer,
      ...parts(answer.alerts),
      recovered: !answer.not_recovered.length && names.length === regions.length,
      after: cursorOf(answer.positions),
      ...this.#told,
    };
  }

  /** A constructor of connections to this service. */
  get WebSocket(): new (url: string, protocols?: string[]) => Peer {
    const service = this;
    return function (url: string, protocols?: string[]) {
      service.handshakes.push(url);
      return service.elsewhere(url, protocols) ?? new FakeSocket(service, url, protocols);
    } as never;
  }
}

/** Positions as a text; none if there are none. */
function afterOf(positions: Record<string, Position> = {}): string {
  const texts = Object.entries(positions).map(([region, { seq }]) => `${region} ${seq}`);
  return texts[0] ? ` after ${texts.sort().join()}` : "";
}

const refusal = (field?: string): object => ({
  type: "error",
  code: "invalid_field",
  message: "no",
  field,
  retryable: false,
});

/** Separates alerts from removals. */
function parts(logged: Logged[]): { alerts: ViralAlert[]; removed?: RemovedAlert[] } {
  const alerts = logged.filter((one) => one.type === "viral_alert");
  const removed = logged.filter((one) => one.type === "alert_removed");
  return { alerts, ...(removed[0] && { removed }) };
}

function cursorOf(positions: Record<string, Position>): string {
  return Object.entries(positions)
    .map(([region, { epoch, seq }]) => `${region}.${epoch.toString(36)}.${seq.toString(36)}`)
    .join("_");
}

export function parseCursor(text: string): Record<string, Position> {
  const parts = text
    .split("_")
    .filter(Boolean)
    .map((part) => part.split("."));
  return Object.fromEntries(
    parts.map(([region, epoch, seq]) => [region, { epoch: parseInt(epoch!, 36), seq: parseInt(seq!, 36) }]),
  );
}

/** A WebSocket whose other side is the WebSocket API. */
export class FakeSocket implements Peer {
  readyState = 0;
  onopen: WebSocketLike["onopen"] = null;
  onmessage: WebSocketLike["onmessage"] = null;
  onerror: WebSocketLike["onerror"] = null;
  onclose: WebSocketLike["onclose"] = null;
  readonly regions = new Set<string>();
  /** The service has been told that this connection has ended, rightly or not. */
  isMarkedClosed = false;
  /** The region that the address subscribes; its alerts come in the other form. */
  readonly region: string | null;
  readonly #service: Service;

  constructor(service: Service, url: string, protocols?: string[]) {
    this.#service = service;
    service.offers.push(protocols);
    this.region = new URL(url).searchParams.get("region");
    setTimeout(() => {
      if (service.silent || this.readyState > 0) return;
      if (service.refuses) return this.ends();
      this.readyState = 1;
      service.sockets.add(this);
      this.onopen?.({} as never);
    }, LATENCY);
  }

  send(data: string): void {
    const message = JSON.parse(data) as Message;
    this.#service.messages.push(message);
    const { type, regions = [], since } = message;
    this.#service.said.push([type, regions.join()].filter(Boolean).join(" ") + afterOf(since));
    this.#service.frames.push({ type: message.type, bytes: new TextEncoder().encode(data).length });
    setTimeout(() => {
      if (this.#service.silent || this.readyState !== 1) return;
      if (this.#service.hangsUp) return this.ends();
      const usual = (): object => (message.type === "ping" ? { type: "pong" } : this.#service.answer(message, this));
      const answer = this.#service.nextAnswer ?? usual();
      this.#service.nextAnswer = undefined;
      if (message.type === "subscribe_region" && this.#service.answerIsLost()) return;
      this.pushes(answer, LATENCY);
    }, LATENCY);
  }

  loses(...regions: string[]): void {
    for (const region of regions) this.regions.delete(region);
  }

  pushes(frame: object, delay: number): void {
    const data = JSON.stringify(frame);
    this.#service.frames.push({
      type: (frame as { type?: string }).type ?? "",
      bytes: new TextEncoder().encode(data).length,
    });
    const arrives = (): void => {
      if (this.readyState === 1 && !this.#service.silent) this.onmessage?.({ data } as never);
    };
    if (delay) setTimeout(arrives, delay);
    else arrives();
  }

  close(): void {
    this.readyState = 3;
    this.#service.sockets.delete(this);
  }

  ends(code = 1006): void {
    this.close();
    this.onclose?.({ code } as never);
  }
}
