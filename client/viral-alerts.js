// The connection of a page to Viral Alerts: subscribes to regions, comes back after a cut, drops what it has seen.
//
//   const alerts = new ViralAlerts("wss://…/prod");
//   alerts.addEventListener("alert", ({ detail }) => show(detail));
//   alerts.watch("PL");

/** Pause before the first reconnection, in milliseconds; it doubles with each failure. */
const BACKOFF_MS_MIN = 500;
/** Longest pause between two attempts, in milliseconds. */
const BACKOFF_MS_MAX = 20_000;
/** API Gateway closes a connection after ten minutes without a message; each ping is paid for. */
const KEEPALIVE_MS = 9.5 * 60_000;
/** Alerts that are remembered per region to recognise a repeat. */
const SEEN_MAX = 500;

/**
 * Events: `alert` (detail: an alert as the service sent it), `state` (detail: `connecting`, `open`, `waiting` with
 * `retryInMs`, or `closed`), `subscribed`, `unsubscribed`, `error` (detail: the service's answer).
 */
export class ViralAlerts extends EventTarget {
  #url;
  #socket = null;
  #watched = new Set();
  #failures = 0;
  #timer = null;
  #keepalive = null;
  #closed = false;
  #seen = new Map();

  /** @param {string} url address of the WebSocket API with its stage */
  constructor(url) {
    super();
    this.#url = url;
    globalThis.addEventListener?.("online", this.#online);
    this.#connect();
  }

  /** Regions that are watched, sorted. */
  get watched() {
    return [...this.#watched].sort();
  }

  /** Watches a region, or `ALL`. Takes effect at once, and again after every reconnection. */
  watch(region) {
    const name = region.trim().toUpperCase();
    this.#watched.add(name);
    this.#send({ type: "subscribe_region", region: name });
  }

  /** Stops watching a region. */
  unwatch(region) {
    const name = region.trim().toUpperCase();
    this.#watched.delete(name);
    this.#send({ type: "unsubscribe_region", region: name });
  }

  /** Ends the connection for good. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.("online", this.#online);
    this.#socket?.close(1000);
    this.#state("closed");
  }

  #connect() {
    this.#state("connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.addEventListener("open", () => {
      this.#failures = 0;
      this.#state("open");
      for (const region of this.#watched) this.#send({ type: "subscribe_region", region });
      this.#keepalive = setInterval(() => this.#send({ type: "ping" }), KEEPALIVE_MS);
    });
    socket.addEventListener("message", ({ data }) => this.#receive(data));
    socket.addEventListener("close", () => {
      clearInterval(this.#keepalive);
      if (this.#closed || socket !== this.#socket) return;
      // Full jitter: clients that were cut off together do not come back together.
      const bound = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.#failures);
      const retryInMs = Math.random() * bound;
      this.#failures += 1;
      this.#state("waiting", { retryInMs });
      this.#timer = setTimeout(() => this.#connect(), retryInMs);
    });
  }

  /** The network is back: no reason to wait any longer. */
  #online = () => {
    if (this.#socket?.readyState === WebSocket.CLOSED && !this.#closed) {
      clearTimeout(this.#timer);
      this.#connect();
    }
  };

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    switch (message.type ?? message.event) {
      case "viral_alert":
      case "new_trending":
        if (this.#isNew(message)) this.#emit("alert", message);
        break;
      case "subscribed":
      case "unsubscribed":
      case "error":
        this.#emit(message.type, message);
        break;
    }
  }

  /** Delivery is at least once; a position that was seen is a repeat. */
  #isNew({ region, epoch, seq }) {
    if (seq === undefined) return true;
    const key = `${epoch}/${seq}`;
    const seen = this.#seen.get(region) ?? new Set();
    this.#seen.set(region, seen);
    if (seen.has(key)) return false;
    seen.add(key);
    if (seen.size > SEEN_MAX) seen.delete(seen.values().next().value);
    return true;
  }

  #state(state, more = {}) {
    this.#emit("state", { state, ...more });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
