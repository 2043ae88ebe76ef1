// An Event API of AppSync, in memory and in virtual time, with faults on request: it sends at most once, in any order.

import { LATENCY, type Peer, type Service } from "./service.js";
import type { ViralAlert, WebSocketLike } from "../src/viral-alerts.js";

export const EVENTS = { url: "wss://realtime.example/event/realtime", host: "api.example", share: 100 };

/** What AppSync reads of an authorization. */
interface Authorization {
  host: string;
  Authorization: string;
}

/** The Event API of a service. What the service refuses to all connections, it refuses too. */
export class AppSync {
  readonly service: Service;
  readonly sockets = new Set<EventSocket>();
  /** Every message of clients, oldest first. */
  readonly messages: { type: string; id?: string; channel?: string; authorization?: Authorization }[] = [];
  readonly handshakes: Authorization[] = [];
  /** Decides how often an event arrives at a subscription, and how long each takes. */
  deliver: (alert: ViralAlert) => number[] = (alert) => this.service.deliver(alert);
  /** Handshakes are refused, and those of the WebSocket API are not. */
  refuses = false;
  /** Handshakes have no answer. */
  hangs = false;
  /** Whether subscriptions have an answer. */
  answersSubscriptions = true;
  /** Whether it sends `ka`. */
  sendsKa = true;
  /** Refused channels, with the types of their errors. */
  readonly refused = new Map<string, string>();
  /** The type of the error with which the next channel is refused. */
  nextError: string | undefined;
  /** Channels of one connection. Source: AppSync's quotas. */
  channelsMax = 200;
  /** Events that are published so soon after `subscribe_success` do not arrive. */
  lateMs = 0;
  /** What `event` holds: the text, or, as the documentation shows it, a list. */
  wrap: (text: string) => string | string[] = (text) => text;

  /** Puts the Event API beside the service, whose alerts it publishes from now on. */
  constructor(service: Service) {
    this.service = service;
    service.events = { ...EVENTS };
    service.elsewhere = (url, protocols) => (url === EVENTS.url ? new EventSocket(this, protocols!) : undefined);
    const publish = service.publish.bind(service);
    service.publish = (...given) => {
      const alert = publish(...given);
      this.send(alert);
      return alert;
    };
  }

  send(alert: ViralAlert): void {
    const event = this.wrap(JSON.stringify(alert));
    for (const socket of this.sockets) {
      for (const [id, { channel, since }] of socket.channels) {
        if (channel !== "/alerts/*" && channel !== `/alerts/${alert.region}`) continue;
        if (Date.now() < since + this.lateMs) continue;
        for (const delay of this.deliver(alert)) socket.receives({ type: "data", id, event }, delay);
      }
    }
  }
}

const regionOf = (channel: string): string => channel.replace("/alerts/", "").replace("*", "ALL");

export class EventSocket implements Peer {
  readyState = 0;
  onopen: WebSocketLike["onopen"] = null;
  onmessage: WebSocketLike["onmessage"] = null;
  onerror: WebSocketLike["onerror"] = null;
  onclose: WebSocketLike["onclose"] = null;
  /** By the id of the subscription, with the time of its `subscribe_success`. */
  readonly channels = new Map<string, { channel: string; since: number }>();
  /** Regions by the id of each subscription that there was. */
  readonly #named = new Map<string, string>();
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
      const { service } = appSync;
      if (service.silent || appSync.hangs || this.readyState > 0) return;
      if (appSync.refuses || service.refuses) return this.ends();
      this.readyState = 1;
      appSync.sockets.add(this);
      service.sockets.add(this);
      this.onopen?.({} as never);
      this.#ka = setInterval(() => appSync.sendsKa && this.receives({ type: "ka" }, LATENCY), 60_000);
    }, LATENCY);
  }

  send(data: string): void {
    const message = JSON.parse(data) as AppSync["messages"][number];
    const { messages, service } = this.#appSync;
    messages.push(message);
    const { type, id, channel } = message;
    if (channel) this.#named.set(id!, regionOf(channel));
    if (type !== "connection_init") service.said.push(`${type} ${this.#named.get(id!) ?? id}`);
    setTimeout(() => {
      if (this.readyState !== 1 || service.silent) return;
      if (service.hangsUp) return this.ends();
      const answer = this.#answer(message);
      const isLost = (): boolean => !this.#appSync.answersSubscriptions || service.answerIsLost();
      if (message.type === "subscribe" && isLost()) return;
      this.receives(answer, LATENCY);
    }, LATENCY);
  }

  #answer({ type, id, channel, authorization }: AppSync["messages"][number]): object {
    if (type === "connection_init") return { type: "connection_ack", connectionTimeoutMs: 300_000 };
    if (type === "unsubscribe") {
      const error = { errorType: "UnknownOperationError", message: `Unknown operation id ${id}` };
      const known = this.channels.delete(id!);
      return known ? { type: "unsubscribe_success", id } : { type: "unsubscribe_error", id, errors: [error] };
    }
    if (type !== "subscribe") return { type: "error", errors: [{ errorType: "UnsupportedOperation" }] };
    const errorType = this.#refusal(id!, channel!, authorization);
    if (errorType) return { type: "subscribe_error", id, errors: [{ errorType }] };
    this.channels.set(id!, { channel: channel!, since: Date.now() });
    return { type: "subscribe_success", id };
  }

  #refusal(id: string, channel: string, authorization: Authorization | undefined): string | undefined {
    const { channelsMax, nextError, refused, service } = this.#appSync;
    this.#appSync.nextError = undefined;
    if (authorization?.host !== EVENTS.host || this.channels.has(id)) return "BadRequestException";
    if (service.forbidden.has(regionOf(channel))) return "UnauthorizedException";
    if (this.channels.size >= channelsMax) return "MaxSubscriptionsReachedError";
    return nextError ?? refused.get(channel);
  }

  get regions(): ReadonlySet<string> {
    return new Set([...this.channels.values()].map(({ channel }) => regionOf(channel)));
  }

  loses(...regions: string[]): void {
    for (const [id, { channel }] of this.channels) if (regions.includes(regionOf(channel))) this.channels.delete(id);
  }

  /** Sends a frame of the service as an event of the first channel. */
  pushes(frame: object, delay: number): void {
    const [id] = this.channels.keys();
    if (id) this.receives({ type: "data", id, event: this.#appSync.wrap(JSON.stringify(frame)) }, delay);
  }

  receives(frame: object, delay: number): void {
    const data = JSON.stringify(frame);
    const arrives = (): void => {
      if (this.readyState === 1 && !this.#appSync.service.silent) this.onmessage?.({ data } as never);
    };
    if (delay) setTimeout(arrives, delay);
    else arrives();
  }

  close(): void {
    this.readyState = 3;
    clearInterval(this.#ka);
    this.#appSync.sockets.delete(this);
    this.#appSync.service.sockets.delete(this);
  }

  ends(code = 1006): void {
    this.close();
    this.onclose?.({ code } as never);
  }
}
