import { startClient, type Client } from "./client.js";
import { QUEUE_MAX } from "./limits.js";
import {
  ViralAlertsError,
  type EventMap,
  type Options,
  type RemovedAlert,
  type State,
  type ViralAlert,
} from "./types.js";

export * from "./types.js";

/**
 * Follows regions over one connection and dispatches each alert once, in the order of its region. Region names are not
 * case-sensitive; `ALL` stands for every region.
 *
 * @example
 * const alerts = new ViralAlerts({ url: "wss://example.com/prod", httpUrl: "https://example.com", regions: ["PL"] });
 * alerts.addEventListener("alert", ({ detail }) => console.log(detail.region, detail.video.title));
 */
export class ViralAlerts extends EventTarget implements AsyncIterable<ViralAlert> {
  readonly #client: Client;

  /**
   * Starts the client; it connects on its own.
   *
   * @param options The options, or only the address of the WebSocket API.
   * @throws TypeError if an address or `regions` is invalid, or if the runtime has no WebSocket.
   * @throws RangeError if the name of a region is invalid.
   */
  constructor(options: string | URL | Options) {
    super();
    const given = typeof options === "string" || options instanceof URL ? { url: options } : { ...options };
    this.#client = startClient(given, (type, detail) => this.dispatchEvent(new CustomEvent(type, { detail })));
  }

  /** The watched regions, sorted. */
  get watched(): string[] {
    return [...this.#client.watched].sort();
  }

  /** What the client does now. */
  get state(): State {
    return this.#client.state;
  }

  /**
   * Watches a region: from now on, or from where this tab left off.
   *
   * @throws RangeError if the name is invalid.
   */
  watch(region: string): void {
    this.#client.watch(region);
  }

  /** Stops watching a region and forgets its position. */
  unwatch(region: string): void {
    this.#client.unwatch(region);
  }

  /** Closes the client permanently. */
  close(): void {
    this.#client.close();
  }

  /**
   * Yields alerts from now on, except those that are removed before the loop reaches them. Ends when the client is
   * closed.
   *
   * @throws ViralAlertsError if an error closed the client, or if the loop is 10,000 alerts behind (`slow_consumer`).
   * @example
   * for await (const { region, video } of alerts) console.log(region, video.title);
   */
  [Symbol.asyncIterator](): AsyncGenerator<ViralAlert, void, void> {
    const client = this.#client;
    const queue: ViralAlert[] = [];
    const left = new AbortController();
    let error: ViralAlertsError | undefined;
    let wake = (): void => {};
    const onAlert = ({ detail }: CustomEvent<ViralAlert>): void => {
      if (!error && queue.length < QUEUE_MAX) queue.push(detail);
      else error = new ViralAlertsError({ code: "slow_consumer" });
      wake();
    };
    const onRemoved = ({ detail: { region, epoch, seq } }: CustomEvent<RemovedAlert>): void => {
      const at = queue.findIndex((alert) => alert.region === region && alert.epoch === epoch && alert.seq === seq);
      if (at >= 0) queue.splice(at, 1);
    };
    this.addEventListener("alert", onAlert, left);
    this.addEventListener("removed", onRemoved, left);
    this.addEventListener("state", () => wake(), left);
    const alerts = (async function* (): AsyncGenerator<ViralAlert, void, void> {
      try {
        while (!left.signal.aborted) {
          const alert = queue.shift();
          if (alert) yield alert;
          else if ((error ??= client.error)) throw error;
          else if (client.state.state === "closed") return;
          else await new Promise<void>((resolve) => (wake = resolve));
        }
      } finally {
        left.abort();
      }
    })();
    // Without this, a generator that waits would end only at the next alert.
    const end = alerts.return;
    alerts.return = (value) => {
      left.abort();
      wake();
      return end.call(alerts, value);
    };
    return alerts;
  }
}

export interface ViralAlerts {
  addEventListener<Type extends keyof EventMap>(
    type: Type,
    listener: ((event: EventMap[Type]) => void) | { handleEvent(event: EventMap[Type]): void } | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof EventMap>(
    type: Type,
    listener: ((event: EventMap[Type]) => void) | { handleEvent(event: EventMap[Type]): void } | null,
    options?: boolean | EventListenerOptions,
  ): void;
}
