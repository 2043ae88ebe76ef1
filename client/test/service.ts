// The service as docs/protocol.md has it, in memory and in virtual time, with faults on request.

import type { Position, ViralAlert } from "../src/viral-alerts.js";

/** Milliseconds that anything takes on its way. */
export const LATENCY = 10;
const ANSWER_BYTES_MAX = 32 * 1024;
const REGIONS_MAX = 25;

interface Log {
  epoch: number;
  alerts: ViralAlert[];
  /** Alerts up to this number are forgotten. */
  forgotten: number;
}

/** What a client sent. */
export interface Message {
  type: string;
  regions: string[];
  since?: Record<string, Position>;
}

/** Where a request of a client goes; `handshake` and `answer` decide about WebSockets. */
export class Service {
  readonly sockets = new Set<FakeSocket>();
  readonly sources = new Set<FakeEventSource>();
  /** Everything that clients sent by WebSocket, oldest first. */
  readonly messages: Message[] = [];
  readonly requests: URL[] = [];
  /** Addresses of all handshakes. */
  readonly handshakes: string[] = [];
  /** Handshakes are refused. */
  refuses = false;
  /** Nothing is answered any more, and nothing is closed. */
  silent = false;
  /** What HTTP answers instead of 200. */
  status = 200;
  /** What is answered to the next message instead. */
  nextAnswer: object | undefined;
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
      timestamp: "2026-11-18T11:06:40Z",
    };
    log.alerts.push(alert);
    for (const socket of this.sockets) {
      if (!socket.regions.has(region) && !socket.regions.has("ALL")) continue;
      for (const delay of this.deliver(alert)) socket.receives(alert, delay);
    }
    for (const source of this.sources) source.receives(alert);
    return alert;
  }

  /** What is older than the newest `kept` alerts is gone. */
  forget(region: string, kept: number): void {
    const log = this.#logs.get(region)!;
    log.forgotten = log.alerts.length - kept;
  }

  /** The tables are lost; the next alerts begin a new log. */
  reset(): void {
    this.#logs.clear();
    this.epoch += 1_000;
  }

  /** The gateway goes away with all its connections. */
  cut(): void {
    for (const socket of [...this.sockets]) socket.ends();
  }

  head(region: string): Position {
    const log = this.#logs.get(region);
    return log ? { epoch: log.epoch, seq: log.alerts.length } : { epoch: 0, seq: 0 };
  }

  #regions(names: string[]): string[] {
    return names.includes("ALL") ? [...new Set([...names, ...this.#logs.keys()])].filter((name) => name !== "ALL") : names;
  }

  /** What follows a position, or nothing where that cannot be said. */
  #after(region: string, since: Position): ViralAlert[] | undefined {
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
    for (const region of regions) socket.regions.add(region);
    const names = this.#regions(regions);
    const answer = { type: "subscribed", regions, positions: this.#heads(names), ...this.advice };
    if (!since) return answer;
    const alerts: ViralAlert[] = [];
    const not_recovered: string[] = [];
    for (const name of names) {
      const from = since[name] ?? (regions.includes("ALL") ? { epoch: 0, seq: 0 } : undefined);
      const missed = from && this.#after(name, from);
      if (!from) continue;
      if (missed && JSON.stringify([...alerts, ...missed]).length < ANSWER_BYTES_MAX) alerts.push(...missed);
      else not_recovered.push(name);
    }
    return { ...answer, alerts, recovered: !not_recovered.length, ...(not_recovered.length && { not_recovered }) };
  }

  #heads(names: string[]): Record<string, Position> {
    return Object.fromEntries(names.map((name) => [name, this.head(name)]));
  }

  /** `GET /alerts`. */
  readonly fetch = async (input: string | URL | Request): Promise<Response> => {
    const url = new URL(String(input));
    this.requests.push(url);
    await new Promise((resolve) => setTimeout(resolve, LATENCY));
    if (this.status === 0) throw new TypeError("Failed to fetch");
    if (this.status !== 200) return new Response("{}", { status: this.status });
    const asked = url.searchParams.get("region")!.split(",");
    if (asked.length > REGIONS_MAX) return new Response("{}", { status: 400 });
    const names = this.#regions(asked);
    const after = parseCursor(url.searchParams.get("after") ?? "");
    const answer = { alerts: [] as ViralAlert[], positions: this.#heads(names), not_recovered: [] as string[], more: false };
    for (const name of names) {
      const from = after[name];
      const all = url.searchParams.get("region") === "ALL" && url.searchParams.has("after");
      const missed = from || all ? this.#after(name, from ?? { epoch: 0, seq: 0 }) : [];
      if (!missed) answer.not_recovered.push(name);
      else {
        const page = missed.slice(0, 100 - answer.alerts.length);
        answer.alerts.push(...page);
        if (page.length === missed.length) continue;
        answer.more = true;
        answer.positions[name] = { epoch: this.head(name).epoch, seq: (from?.seq ?? 0) + page.length };
      }
    }
    return Response.json({ ...answer, recovered: !answer.not_recovered.length, after: cursor(answer.positions) });
  };

  /** Constructors that reach this service. */
  get WebSocket(): new (url: string) => FakeSocket {
    const service = this;
    return class extends FakeSocket {
      constructor(url: string) {
        super(service, url);
      }
    };
  }

  get EventSource(): new (url: string) => FakeEventSource {
    const service = this;
    return class extends FakeEventSource {
      constructor(url: string) {
        super(service, url);
      }
    };
  }
}

function cursor(positions: Record<string, Position>): string {
  return Object.entries(positions)
    .map(([region, { epoch, seq }]) => `${region}.${epoch}.${seq}`)
    .join("~");
}

function parseCursor(text: string): Record<string, Position> {
  const parts = text.split("~").filter(Boolean).map((part) => part.split("."));
  return Object.fromEntries(parts.map(([region, epoch, seq]) => [region, { epoch: Number(epoch), seq: Number(seq) }]));
}

type Listener<Event> = ((event: Event) => void) | null;

/** A WebSocket whose other side is a `Service`. */
export class FakeSocket {
  readyState = 0;
  onopen: Listener<never> = null;
  onmessage: Listener<{ data: unknown } & never> = null;
  onerror: Listener<never> = null;
  onclose: Listener<never> = null;
  readonly regions = new Set<string>();
  readonly #service: Service;

  constructor(service: Service, url: string) {
    this.#service = service;
    service.handshakes.push(url);
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
    setTimeout(() => {
      if (this.#service.silent || this.readyState !== 1) return;
      const usual = (): object => (message.type === "ping" ? { type: "pong" } : this.#service.answer(message, this));
      const answer = this.#service.nextAnswer ?? usual();
      this.#service.nextAnswer = undefined;
      this.receives(answer, LATENCY);
    }, LATENCY);
  }

  receives(frame: object, delay: number): void {
    const data = JSON.stringify(frame);
    setTimeout(() => this.readyState === 1 && !this.#service.silent && this.onmessage?.({ data } as never), delay);
  }

  close(): void {
    this.readyState = 3;
    this.#service.sockets.delete(this);
  }

  /** The connection ends from the other side. */
  ends(): void {
    this.close();
    this.onclose?.({} as never);
  }
}

/** An EventSource that stays open, as far as a client sees. */
export class FakeEventSource {
  readyState = 1;
  onmessage: Listener<{ data: unknown } & never> = null;
  onerror: Listener<never> = null;
  readonly #service: Service;
  readonly #regions: string[];

  constructor(service: Service, url: string) {
    this.#service = service;
    this.#regions = new URL(url).searchParams.get("region")!.split(",");
    service.sources.add(this);
  }

  receives(alert: ViralAlert): void {
    if (!this.#regions.includes(alert.region) && !this.#regions.includes("ALL")) return;
    setTimeout(() => this.readyState < 2 && this.onmessage?.({ data: JSON.stringify(alert) } as never), LATENCY);
  }

  /** The browser gives up, as it does after an answer that is no event stream. */
  fails(): void {
    this.close();
    this.onerror?.({} as never);
  }

  close(): void {
    this.readyState = 2;
    this.#service.sources.delete(this);
  }
}
