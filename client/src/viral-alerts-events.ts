// The leg of AppSync Events: a class for the option `WebSocket`. Towards the client it speaks the protocol of the
// service, so that all of the client's guarantees hold; it takes alerts from AppSync, which loses some, and answers
// from the log. Where the service has no such leg, it opens the WebSocket API.

import { backoff } from "./backoff.js";
import { cursor, get } from "./history.js";
import {
  CHECK_MS,
  CHECK_MS_MIN,
  FALLBACK_MS,
  INQUIRIES_MAX,
  KA_MS,
  MARGIN_MS,
  PAGES_MAX,
  POLL_MS,
  REGIONS_MAX,
  EVENTS_RECONNECT_MS,
  ROTATE_AFTER_MS_MAX,
  SECOND_LOOK_MS,
  TOKEN_MS_MIN,
} from "./limits.js";
import { ALL } from "./log.js";
import type { Answer, Leg, Positions } from "./news.js";
import { checkNumbers } from "./numbers.js";
import { nameOf } from "./region.js";
import { keepAge } from "./token-age.js";
import type { Options, RemovedAlert, ViralAlert, ViralAlertsError, WebSocketLike } from "./viral-alerts.js";

/** Options of `eventsSocket`: those of the client, so that you can pass the same object. */
export interface EventsOptions extends Pick<Options, "regions" | "token" | "WebSocket"> {
  /** Address of the HTTP API, in whose log the client finds what AppSync has lost. */
  httpUrl: string | URL;
  /**
   * Average milliseconds between looks at the log; each pause is 0.75 to 1.25 of it. An alert that was lost is found
   * after one pause at most, unless a later one of its region shows it sooner. From 10,000; more than a day counts as
   * a day. Default: 1,800,000.
   */
  checkMs?: number;
}

/** A message of the client. */
interface Message {
  type: string;
  regions: string[];
  since?: Positions;
}

/** A frame of AppSync. `event` is the text of a frame of the service, which the documentation shows in a list. */
interface EventFrame {
  type?: string;
  id?: string;
  event?: string | string[];
  errors?: { errorType?: string }[];
}

const READY_STATE = { connecting: 0, open: 1, closed: 3 };

/** Base64 of an ASCII text, in the alphabet for addresses and without padding. */
const base64url = (text: string): string =>
  btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** Subscriptions in a row that cannot be answered, after which the client uses the WebSocket API. */
const VAIN_MAX = 3;

/** Alerts that wait until the log is read. Older ones are dropped: the log has them. */
const HELD_MAX = 1_000;

/** An answer that refuses a message, as the service writes it. */
const refusal = (code: string, retryable = false) => ({ type: "error", code, message: code, retryable });

/** What the client is told where AppSync refuses a channel for good. */
function refusalOf({ errors }: EventFrame): object | undefined {
  const why = errors?.[0]?.errorType ?? "";
  if (/^BadRequest/.test(why)) return refusal("forbidden");
  return /^Max/.test(why) ? refusal("limit_reached") : undefined;
}

/**
 * Returns a class for the option `WebSocket` of the client, with which alerts come over AppSync Events if the service
 * says so, for the share of clients that it says, and over its WebSocket API otherwise. The client keeps all its
 * guarantees: the class reads the log after it has subscribed, where a number is missing, and every `checkMs`.
 *
 * @throws TypeError if `httpUrl` is missing, or `checkMs` is too small.
 * @example
 * const options = { url, httpUrl, regions: ["PL"] };
 * const alerts = new ViralAlerts({ ...options, WebSocket: eventsSocket(options) });
 */
export function eventsSocket(options: EventsOptions): NonNullable<Options["WebSocket"]> {
  const { httpUrl, token, regions = [] } = options;
  if (!httpUrl) throw TypeError("no httpUrl: the log is read there");
  checkNumbers(options, { checkMs: CHECK_MS_MIN });
  const checkMs = Math.min(options.checkMs ?? CHECK_MS, ROTATE_AFTER_MS_MAX);
  const tokens = token == null ? undefined : keepAge(token);
  const settings = { httpUrl: String(httpUrl).replace(/\/$/, ""), token: tokens?.next };
  /** Which share of the clients this one belongs to. */
  const draw = Math.floor(Math.random() * 100);
  /** Whether the Event API and its log have all that this client follows. If not, the WebSocket API does. */
  let isCovered = true;
  /** The leg of which the service told last; null if it told that there is none. */
  let leg: Leg | null | undefined;
  /** Whether the last request for the log had an answer of the service. Without it there is nothing to begin with. */
  let isReadable = false;
  /** The leg did not serve, so the next connection is another one. */
  let avoids = false;
  /** What the constructor of a socket threw, after that of this class had returned. */
  let failure: unknown;

  const isMeant = (): boolean => isCovered && !!leg && draw < leg.share;

  const learn = <Told extends { events?: Leg }>(told: Told): Told => {
    leg = told.events?.url && told.events.host ? told.events : null;
    return told;
  };

  const query = async (asked: string[], after: { after?: string; limit?: string }): Promise<Answer> => {
    try {
      const answer = learn(await get(settings, { region: asked.join(), ...after }));
      isReadable = true;
      return answer;
    } catch (error) {
      // A refusal of the service is an answer too.
      const { code, status } = error as ViralAlertsError;
      isReadable = status === 429 || (!!code && status! < 500);
      throw error;
    }
  };

  /** Reads the log of up to 25 regions, or of `ALL`, after positions. Without positions it reads where the logs end. */
  const read = async (asked: string[], since?: Positions) => {
    const found = {
      positions: { ...since },
      alerts: [] as ViralAlert[],
      removed: [] as RemovedAlert[],
      not_recovered: [] as string[],
    };
    const log = { positions: () => found.positions, has: () => !!since && asked[0] === ALL };
    for (let page = 0, before; page < PAGES_MAX; page++) {
      const after = cursor(log, asked);
      // A page that does not move the cursor is the last one.
      if (after === before) break;
      before = after;
      const answer = await query(asked, after ? { after } : { limit: "1" });
      // Of `ALL` it leaves out what a cursor cannot name: regions would begin nowhere, and lost alerts stay lost.
      if (asked[0] === ALL && answer.recovered === false && !answer.not_recovered?.[0]) isCovered = false;
      Object.assign(found.positions, answer.positions);
      if (after) {
        found.alerts.push(...(answer.alerts ?? []));
        found.removed.push(...(answer.removed ?? []));
        found.not_recovered.push(...(answer.not_recovered ?? []));
      }
      if (!after || !answer.more) break;
    }
    return found;
  };

  return class EventsSocket implements WebSocketLike {
    readyState = READY_STATE.connecting;
    onopen: WebSocketLike["onopen"] = null;
    onmessage: WebSocketLike["onmessage"] = null;
    onerror: WebSocketLike["onerror"] = null;
    onclose: WebSocketLike["onclose"] = null;
    #inner: WebSocketLike | undefined;
    /** Regions to which the client is subscribed, and the ids of the channels to which this connection is. */
    readonly #regions = new Set<string>();
    readonly #channels = new Map<string, string>();
    /** Ids of the channels that have brought something since the last look. */
    readonly #heard = new Set<string>();
    #count = 0;
    /** What takes the answers of AppSync, by id. */
    readonly #waiting = new Map<string, (frame: EventFrame) => void>();
    /** Up to where the client was handed everything, by region. */
    readonly #at: Positions = {};
    #watch: ReturnType<typeof setTimeout> | undefined;
    #timer: ReturnType<typeof setTimeout> | undefined;
    /** Looks that failed in a row. */
    #failures = 0;
    #life = Infinity;
    /** The leg of this connection, if it is one to AppSync. */
    #leg: Leg | undefined;
    /** On the clock of `performance.now`. */
    readonly #began = performance.now();
    /** Whether the client has had an answer with the log. */
    #serves = false;
    /** Subscriptions in a row that could not be answered. */
    #vain = 0;
    /** Alerts that are not the next ones of their regions, and arrived before the log was read. */
    #held: object[] = [];
    /** Whether a look is due soon, also where one is under way. */
    #isDue = false;

    constructor(url: string, protocols: string[] = []) {
      const error = failure;
      failure = undefined;
      // The client tells the application of what a constructor throws.
      if (error) throw error;
      void this.#connect(url, protocols).catch(() => this.#end());
    }

    send(data: string): void {
      if (!this.#leg) return this.#inner?.send(data);
      const message = JSON.parse(data) as Message;
      // AppSync answers that it does not know the id, which shows that it is there.
      if (message.type === "ping") this.#post({ type: "unsubscribe", id: "ping" });
      // Like any socket it answers later.
      else Promise.resolve(message).then((message) => this.#answer(message)).catch(() => this.#end());
    }

    close(code?: number): void {
      // The client has waited for it in vain.
      if (this.readyState !== READY_STATE.closed && performance.now() - this.#began >= FALLBACK_MS) this.#avoid();
      this.readyState = READY_STATE.closed;
      clearTimeout(this.#watch);
      clearTimeout(this.#timer);
      this.#inner?.close(code);
    }

    #end(code?: number): void {
      if (this.readyState === READY_STATE.closed) return;
      this.readyState = READY_STATE.closed;
      this.close(1000);
      this.onclose?.({ code } as never);
    }

    /** AppSync has ended the connection, or is silent. */
    #lose(code?: number): void {
      if (this.readyState !== READY_STATE.closed) this.#avoid();
      this.#end(code);
    }

    /** Uses the WebSocket API for the next connection, if this one to AppSync has not served the client. */
    #avoid(): void {
      if (this.#leg && this.#inner && !this.#serves) avoids = true;
    }

    #tell(frame: object): void {
      if (this.readyState === READY_STATE.open) this.onmessage?.({ data: JSON.stringify(frame) } as never);
    }

    #post(message: object): void {
      this.#inner!.send(JSON.stringify(message));
    }

    // --- Connecting --------------------------------------------------------------------------------------------------

    async #connect(url: string, protocols: string[]): Promise<void> {
      if (!isReadable && (leg === undefined || isMeant()) && !avoids) {
        // What goes wrong here goes wrong later too, and is told then. It does not hold up the other connection.
        const late = new Promise((resolve) => (this.#timer = setTimeout(resolve, FALLBACK_MS)));
        await Promise.race([this.#inquire().catch(() => {}), late]);
        clearTimeout(this.#timer);
      }
      const stays = avoids || !isReadable;
      avoids = false;
      if (isMeant() && !stays) this.#leg = leg!;
      const authorization = this.#leg && (await this.#authorization());
      if (this.readyState !== READY_STATE.connecting) return;
      const { WebSocket = globalThis.WebSocket } = options;
      const header = `header-${base64url(JSON.stringify(authorization ?? ""))}`;
      const [address, offered] = authorization
        ? [this.#leg!.url, ["aws-appsync-event-ws", header]]
        : [url, protocols];
      try {
        this.#inner = new WebSocket(address, offered);
      } catch (error) {
        throw (failure = error);
      }
      const inner = this.#inner;
      inner.onopen = () => (this.#leg ? this.#post({ type: "connection_init" }) : this.#open());
      inner.onmessage = ({ data }: { data: unknown }) => (this.#leg ? this.#takeEvent(data) : this.#pass(data, stays));
      inner.onerror = inner.onclose = ({ code }: { code?: number }) => this.#lose(code);
    }

    /** Asks which legs the service has, for the first region that the token does not forbid. */
    async #inquire(): Promise<void> {
      const names = (typeof regions === "string" ? [regions] : [...regions]).map(nameOf);
      if (!names[0]) return void (await query([ALL], { limit: "1" }));
      // Of ALL the answer also says whether the log can name its regions.
      if (names.includes(ALL)) names.unshift(ALL);
      for (const name of names.slice(0, INQUIRIES_MAX)) {
        try {
          return void (await read([name]));
        } catch (error) {
          const isLate = this.readyState === READY_STATE.closed || !!this.#inner;
          if (isLate || (error as ViralAlertsError).code !== "forbidden") return;
        }
      }
    }

    #open(): void {
      this.readyState = READY_STATE.open;
      this.onopen?.({} as never);
    }

    async #authorization(): Promise<{ host: string; Authorization: string }> {
      // AppSync refuses an empty one.
      const value = (await tokens?.next()) || "anonymous";
      this.#life = tokens?.left() ?? Infinity;
      return { host: this.#leg!.host, Authorization: value };
    }

    /** Passes on a frame of the WebSocket API, and changes to AppSync if it says so. */
    #pass(data: unknown, stays: boolean): void {
      this.onmessage?.({ data } as never);
      if (!/"type":"subscribed"/.test(data as string)) return;
      learn(JSON.parse(data as string) as Answer);
      if (isMeant() && !stays) this.#end();
    }

    // --- Alerts ------------------------------------------------------------------------------------------------------

    #takeEvent(data: unknown): void {
      if (this.readyState === READY_STATE.closed) return;
      clearTimeout(this.#watch);
      this.#watch = setTimeout(() => this.#lose(), KA_MS);
      let frame: EventFrame;
      try {
        frame = Object(JSON.parse(data as string)) as EventFrame;
      } catch {
        return;
      }
      if (frame.type === "connection_ack") this.#open();
      else if (frame.type === "connection_error") this.#lose();
      else if (frame.type === "data") {
        this.#heard.add(frame.id!);
        [frame.event].flat().forEach((text) => this.#takeAlert(text));
      } else {
        // To the client it only shows that the peer is there.
        this.#tell({ type: "ka" });
        this.#waiting.get(frame.id!)?.(frame);
        this.#waiting.delete(frame.id!);
      }
    }

    #takeAlert(text: string | undefined): void {
      let alert: ViralAlert | RemovedAlert;
      try {
        alert = Object(JSON.parse(text!)) as ViralAlert;
      } catch {
        return;
      }
      // What else is published there is not for the client.
      if (!/^(viral_alert|alert_removed)$/.test(alert.type)) return;
      const { region, epoch, seq } = alert;
      const at = this.#at[region] ?? { epoch: 0, seq: 0 };
      // Before the first alert of a region there is no log.
      const isNext = epoch === (at.epoch || epoch) && seq === at.seq + 1;
      if (isNext) this.#at[region] = { epoch: epoch!, seq };
      // A gap would make the client ask a log that is not read yet, once for each alert.
      if (isNext || this.#serves) this.#tell(alert);
      else this.#held = [...this.#held.slice(1 - HELD_MAX), alert];
    }

    // --- Requests of the client --------------------------------------------------------------------------------------

    async #answer({ type, regions: asked, since }: Message): Promise<void> {
      if (type === "keepalive") return this.#tell({ type: "kept" });
      const joins = type === "subscribe_region";
      // Such a region has no channel.
      if (joins && asked.some((region) => region.endsWith("-"))) isCovered = false;
      if (!isCovered) return this.#end();
      for (const region of asked) this.#regions[joins ? "add" : "delete"](region);
      for (const region in since) this.#at[region] ??= since[region]!;
      const refused = await this.#subscribe();
      if (!joins) {
        // Leaving ALL subscribes to what it covered.
        if (asked.includes(ALL)) this.#lookSoon();
        return refused ? this.#end() : this.#tell({ type: "unsubscribed", regions: asked });
      }
      const final = refused && refusalOf(refused);
      if (final) return this.#tell(final);
      try {
        const found = await read(asked, since);
        if (!isCovered) return this.#end();
        // AppSync answers the same if the token does not allow a region and if its authorizer failed. The log refuses
        // only the former, and here it has not.
        if (refused) return this.#refuse(refusal("unavailable", true));
        Object.assign(this.#at, found.positions);
        const day = ROTATE_AFTER_MS_MAX - MARGIN_MS * (1 + 3 * Math.random());
        const rotate_after_ms = Math.max(TOKEN_MS_MIN, Math.min(day, 0.9 * this.#life));
        const advice = { reconnect_within_ms: EVENTS_RECONNECT_MS, rotate_after_ms };
        this.#serves = true;
        this.#vain = 0;
        this.#tell({ type: "subscribed", regions: asked, ...found, ...advice });
        for (const alert of this.#held.splice(0)) this.#tell(alert);
      } catch (error) {
        const { code, field, message, status = 500 } = error as ViralAlertsError;
        if (status === 401) return this.#end();
        // Of an error of `since` the client tells the application, and goes on with the region.
        const isOurs = code === "connect" || field === "after";
        if (isOurs) this.#tell({ ...refusal(code), message, field: "since" });
        // A log that is busy has an answer later.
        else if (status === 429) this.#tell(refusal(code || "unavailable", true));
        // An answer without a code is not the service's.
        else this.#refuse(refusal(code || "unavailable", !code || status >= 500));
        // The client has not begun with these regions, so a look would only ask once more.
        return;
      }
      this.#lookSoon();
      this.#follow();
    }

    /** Tells that the service cannot answer now, or leaves AppSync after {@link VAIN_MAX} times. */
    #refuse(frame: { retryable: boolean }): void {
      if (!frame.retryable || ++this.#vain < VAIN_MAX) return this.#tell(frame);
      avoids = true;
      this.#end();
    }

    /** The channels that the regions take. */
    #names(): string[] {
      return this.#regions.has(ALL) ? [ALL] : [...this.#regions];
    }

    /** Subscribes to what the client is subscribed to, and to nothing twice. Returns the refusal of a channel. */
    async #subscribe(): Promise<EventFrame | undefined> {
      const names = this.#names();
      const missing = names.filter((name) => !this.#channels.has(name));
      const authorization = missing[0] && (await this.#authorization());
      const frames = await Promise.all(
        missing.map(async (name) => {
          const frame = await this.#join(name, authorization);
          if (frame.type === "subscribe_success") this.#channels.set(name, frame.id!);
          else this.#regions.delete(name);
          return frame;
        }),
      );
      // Where ALL was refused, the others stay.
      const kept = this.#names();
      for (const [name, id] of this.#channels) {
        if (kept.includes(name)) continue;
        this.#channels.delete(name);
        this.#post({ type: "unsubscribe", id });
      }
      return frames.find(({ type }) => type !== "subscribe_success");
    }

    /** Subscribes to the channel of a region, and returns the answer. */
    #join(name: string, authorization: unknown): Promise<EventFrame> {
      const id = `${this.#count++}`;
      const channel = `/alerts/${name === ALL ? "*" : name}`;
      return new Promise((resolve) => {
        this.#waiting.set(id, resolve);
        this.#post({ type: "subscribe", id, channel, authorization });
      });
    }

    /** Puts another subscription in the place of one that may have ended, and only then ends that one. */
    async #renew(name: string): Promise<void> {
      const before = this.#channels.get(name);
      const { type, id } = await this.#join(name, await this.#authorization());
      if (type !== "subscribe_success") return this.#end();
      // Meanwhile the region may have been left.
      const isWanted = !!before && this.#channels.get(name) === before;
      if (isWanted) this.#channels.set(name, id!);
      this.#post({ type: "unsubscribe", id: isWanted ? before : id });
    }

    // --- The log -----------------------------------------------------------------------------------------------------

    /** Looks at the log soon after a subscription: what is published just after `subscribe_success` may not arrive. */
    #lookSoon(): void {
      this.#isDue = true;
      this.#lookAfter(Math.min(SECOND_LOOK_MS * (1 + Math.random()), checkMs));
    }

    /** Looks at the log after a pause. */
    #lookAfter(ms: number): void {
      clearTimeout(this.#timer);
      if (this.readyState === READY_STATE.open) this.#timer = setTimeout(() => this.#look(), ms);
    }

    /** Hands over what AppSync has lost. */
    async #look(): Promise<void> {
      const names = this.#names();
      this.#isDue = false;
      const silent: string[] = [];
      try {
        for (let from = 0; from < names.length; from += REGIONS_MAX) {
          const asked = names.slice(from, from + REGIONS_MAX);
          const known = Object.entries(this.#at).filter(([name]) => asked.includes(name) || asked[0] === ALL);
          const { positions, alerts, removed, not_recovered } = await read(asked, Object.fromEntries(known));
          // The client's next subscription finds out what is lost.
          if (not_recovered[0] || !isCovered) return this.#end();
          for (const frame of [...removed, ...alerts]) this.#tell(frame);
          Object.assign(this.#at, positions);
          // Regions with a hyphen at the end of their name are not in the channel of ALL.
          const found = [...removed, ...alerts].map(({ region }) => region).filter((region) => !region.endsWith("-"));
          for (const name of asked) {
            const isFound = name === ALL ? found[0] : found.includes(name);
            if (isFound && !this.#heard.has(this.#channels.get(name)!)) silent.push(name);
          }
        }
        this.#failures = 0;
        this.#heard.clear();
        // What AppSync has lost and a subscription that has ended look the same from here. What fails is tried again at
        // the next look.
        for (const name of silent) void this.#renew(name).catch(() => {});
        if (silent[0] || this.#isDue) this.#lookSoon();
        else this.#lookAfter(checkMs * (0.75 + Math.random() / 2));
      } catch (error) {
        // The client's next subscription finds out which region is refused, or that the token is.
        if (/^(forbidden|unauthorized)$/.test((error as ViralAlertsError).code)) return this.#end();
        this.#lookAfter(backoff(this.#failures++, POLL_MS));
      }
      this.#follow();
    }

    /** Changes to the connection that the service means this client to have. */
    #follow(): void {
      if (!isMeant() || leg!.url !== this.#leg!.url) this.#end();
    }
  };
}
