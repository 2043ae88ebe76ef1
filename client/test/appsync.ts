// An Event API of AppSync, in memory and in virtual time, with faults on request: it sends at most once, in any order.

import { LATENCY, type FakeSocket, type Service } from "./service.js";
import type { RemovedAlert, ViralAlert } from "../src/viral-alerts.js";

export const EVENTS = { url: "wss://realtime.example/event/realtime", host: "api.example", share: 100 };

type Listener<Event> = ((event: Event) => void) | null;

/** What AppSync reads of an authorization. */
interface Authorization {
  host: string;
  Authorization: string;
}

export class AppSync {
  readonly sockets = new Set<EventSocket>();
  /** Every message of clients, oldest first. */
  readonly messages: { type: string; id?: string; channel?: string; authorization?: Authorization }[] = [];
  readonly handshakes: Authorization[] = [];
  /** Decides how often an event arrives at a subscription, and how long each takes. */
  deliver: (alert: ViralAlert | RemovedAlert) => number[] = () => [LATENCY];
  /** Handshakes are refused. */
  refuses = false;
  /** It answers nothing. */
  silent = false;
  /** Whether it sends `ka`. */
  sendsKa = true;
  /** Refused channels, with the types of their errors. */
  readonly refused = new Map<string, string>();
  /** Events that are published so soon after `subscribe_success` do not arrive. */
  lateMs = 0;
  /** What `event` holds: the text, or, as the documentation shows it, a list. */
  wrap: (text: string) => string | string[] = (text) => text;

  /** Publishes what the service does from now on. */
  constructor(service: Service) {
    const publish = service.publish.bind(service);
    service.publish = (...given) => {
      const alert = publish(...given);
      this.send(alert);
      return alert;
    };
  }

  send(alert: ViralAlert | RemovedAlert): void {
    const event = this.wrap(JSON.stringify(alert));
    for (const socket of this.sockets) {
      for (const [id, { channel, since }] of socket.channels) {
        if (channel !== "/alerts/*" && channel !== `/alerts/${alert.region}`) continue;
        if (Date.now() < since + this.lateMs) continue;
        for (const delay of this.deliver(alert)) socket.receives({ type: "data", id, event }, delay);
      }
    }
  }

  /** Closes all connections. */
  cut(code?: number): void {
    for (const socket of [...this.sockets]) socket.ends(code);
  }

  /** Constructors that reach this API at its address, and the service elsewhere. */
  with(service: Service): new (url: string, protocols?: string[]) => FakeSocket | EventSocket {
    const appSync = this;
    const Gateway = service.WebSocket;
    return function (url: string, protocols?: string[]) {
      return url === EVENTS.url ? new EventSocket(appSync, protocols!) : new Gateway(url, protocols);
    } as never;
  }
}

export class EventSocket {
  readyState = 0;
  onopen: Listener<never> = null;
  onmessage: Listener<{ data: unknown } & never> = null;
  onerror: Listener<never> = null;
  onclose: Listener<{ code?: number } & never> = null;
  /** By the id of the subscription, with the time of its `subscribe_success`. */
  readonly channels = new Map<string, { channel: string; since: number }>();
  readonly #appSync: AppSync;
  #ka: ReturnType<typeof setInterval> | undefined;

  constructor(appSync: AppSync, [protocol, header]: string[]) {
    this.#appSync = appSync;
    if (protocol !== "aws-appsync-event-ws") throw Error(`subprotocol ${protocol}`);
    const text = header!.replace("header-", "").replaceAll("-", "+").replaceAll("_", "/");
    const authorization = JSON.parse(atob(text)) as Authorization;
    if (/=/.test(header!) || !authorization.Authorization) throw Error(`header ${header}`);
    appSync.handshakes.push(authorization);
    setTimeout(() => {
      if (appSync.silent || this.readyState > 0) return;
      if (appSync.refuses) return this.ends();
      this.readyState = 1;
      appSync.sockets.add(this);
      this.onopen?.({} as never);
      this.#ka = setInterval(() => appSync.sendsKa && this.receives({ type: "ka" }, LATENCY), 60_000);
    }, LATENCY);
  }

  send(data: string): void {
    const message = JSON.parse(data) as AppSync["messages"][number];
    this.#appSync.messages.push(message);
    setTimeout(() => {
      if (this.readyState !== 1) return;
      for (const answer of this.#answer(message)) this.receives(answer, LATENCY);
    }, LATENCY);
  }

  #answer({ type, id, channel, authorization }: AppSync["messages"][number]): object[] {
    if (type === "connection_init") return [{ type: "connection_ack", connectionTimeoutMs: 300_000 }];
    if (type === "unsubscribe") {
      const error = { errorType: "UnknownOperationError", message: `Unknown operation id ${id}` };
      const known = this.channels.delete(id!);
      return [known ? { type: "unsubscribe_success", id } : { type: "unsubscribe_error", id, errors: [error] }];
    }
    if (type !== "subscribe") return [{ type: "error", errors: [{ errorType: "UnsupportedOperation" }] }];
    const isWrong = authorization?.host !== EVENTS.host || this.channels.has(id!);
    const errorType = this.#appSync.refused.get(channel!) ?? (isWrong && "BadRequestException");
    if (errorType) return [{ type: "subscribe_error", id, errors: [{ errorType }] }];
    this.channels.set(id!, { channel: channel!, since: Date.now() });
    return [{ type: "subscribe_success", id }];
  }

  receives(frame: object, delay: number): void {
    const data = JSON.stringify(frame);
    setTimeout(() => {
      if (this.readyState === 1 && !this.#appSync.silent) this.onmessage?.({ data } as never);
    }, delay);
  }

  close(): void {
    this.readyState = 3;
    clearInterval(this.#ka);
    this.#appSync.sockets.delete(this);
  }

  ends(code = 1006): void {
    this.close();
    this.onclose?.({ code } as never);
  }
}
