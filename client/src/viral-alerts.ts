import { startClient, type Client } from "./client.js";
import { QUEUE_MAX } from "./limits.js";
import { ViralAlertsError, type EventMap, type Options, type RemovedAlert, type State, type ViralAlert } from "./types.js";

export * from "./types.js";

/** Follows regions. Regions are named in any case; `ALL` stands for every region. */
export class ViralAlerts extends EventTarget implements AsyncIterable<ViralAlert> {
  readonly #client: Client;

  /**
   * Throws a `TypeError` for an address or `regions` that cannot be, and where there is no WebSocket; a `RangeError` for what
   * cannot be a region.
   */
  constructor(options: string | URL | Options) {
    super();
    const given = typeof options === "string" || options instanceof URL ? { url: options } : { ...options };
    this.#client = startClient(given, (type, detail) => this.dispatchEvent(new CustomEvent(type, { detail })));
  }

  /** Regions that are watched, sorted. */
  get watched(): string[] {
    return [...this.#client.watched].sort();
  }

  get state(): State {
    return this.#client.state;
  }

  /** Watches a region from now on, or from where this tab left off. Throws a `RangeError` for what cannot be a region. */
  watch(region: string): void {
    this.#client.watch(region);
  }

  unwatch(region: string): void {
    this.#client.unwatch(region);
  }

  /** Ends the client for good. */
  close(): void {
    this.#client.close();
  }

  /** Yields alerts from now on, except those that are taken back before they are yielded. Ends when the client is closed, and throws when it is so by an error. */
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
    // A generator that waits would end with the next alert.
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
