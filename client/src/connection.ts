// One WebSocket: requests one at a time, the keepalive, and timeouts that detect a dead peer.

import { ANSWER_MS, KEEPALIVE_MS, MESSAGE_MS, SAVED_MS, TIMER_MS_MAX } from "./limits.js";
import type { Answer, ErrorNews, Kept, Logged } from "./news.js";
import type { WebSocketLike } from "./types.js";

/** A frame of the service, or of API Gateway itself, whose frames have a message and no type. */
export type Frame = Partial<Answer & Kept & ErrorNews> & {
  type?: string;
  event?: string;
  retryable?: boolean;
  retry_after_ms?: number;
};

/** Types of frames that answer a request. All others are pushes, some of types that this client does not know. */
const ANSWERS = /^((un)?subscribed|kept|error)$/;

export interface Connection {
  /** Regions that this connection is subscribed to. */
  readonly acknowledged: Set<string>;
  /** Whether requests are under way. */
  busy: boolean;
  /** Whether a keepalive is due. */
  idle: boolean;
  /** When it opened or the last frame arrived, in milliseconds since 1970; 0 until it opens. */
  heardAt: number;
  /** Sends a message and resolves with its answer; never resolves once the connection has ended. One at a time. */
  exchange(message: object): Promise<Frame>;
  /** Resolves when the next message may go, after `ms` at least; never once the connection has ended. One at a time. */
  free(ms: number): Promise<void>;
  /** Sends a ping. Without an answer the connection ends. */
  ping(): void;
  /** Ends the connection as if its peer had. */
  end(): void;
  close(): void;
}

/**
 * Wraps a socket. Calls `onReady` when it opens and whenever a keepalive is due, and `onEnd`, with the close code if
 * there is one, when it ends without a call of `close`.
 */
export function createConnection(
  socket: WebSocketLike,
  keepaliveMs: number | undefined,
  onReady: () => void,
  onAlert: (alert: Logged) => void,
  onEnd: (code?: number) => void,
): Connection {
  let answer: ((frame: Frame) => void) | undefined;
  let deadline: ReturnType<typeof setTimeout> | undefined;
  let keepalive: ReturnType<typeof setTimeout> | undefined;
  let pause: ReturnType<typeof setTimeout> | undefined;
  /** When the next message may go, on the clock of `performance.now`. */
  let freeAt = -Infinity;
  let closed = false;

  /** Ends the connection unless a frame arrives in time: a dead peer sends no close frame. */
  const expect = (): void => {
    clearTimeout(deadline);
    deadline = setTimeout(end, ANSWER_MS);
  };

  /** The connection opened, or a frame arrived. */
  const heard = (): void => {
    connection.heardAt = Date.now();
    if (!answer) clearTimeout(deadline);
  };

  const send = (message: object): void => {
    if (closed) return;
    socket.send(JSON.stringify(message));
    expect();
  };

  const end = (code?: number): void => {
    if (closed) return;
    connection.close();
    onEnd(code);
  };

  const connection: Connection = {
    acknowledged: new Set(),
    busy: false,
    idle: false,
    heardAt: 0,
    exchange: (message) =>
      new Promise((resolve) => {
        answer = resolve;
        freeAt = Math.max(freeAt, performance.now() - SAVED_MS) + MESSAGE_MS;
        send(message);
      }),
    free: (ms) =>
      new Promise((resolve) => {
        const wait = Math.max(ms, freeAt - performance.now());
        if (wait < 1) resolve();
        else if (!closed) pause = setTimeout(resolve, wait);
      }),
    ping: () => send({ type: "ping" }),
    end,
    close() {
      closed = true;
      clearTimeout(deadline);
      clearTimeout(keepalive);
      clearTimeout(pause);
      socket.close(1000);
    },
  };

  expect();
  socket.onopen = () => {
    heard();
    // A keepalive is due whatever arrives meanwhile: alerts of one region prove nothing about the others.
    keepalive = setInterval(
      () => {
        connection.idle = true;
        onReady();
      },
      Math.min(keepaliveMs ?? KEEPALIVE_MS, TIMER_MS_MAX),
    );
    onReady();
  };
  socket.onmessage = ({ data }) => {
    if (closed) return;
    let frame: Frame;
    try {
      // JSON that is not an object counts as an empty frame.
      frame = Object(JSON.parse(data as string)) as Frame;
    } catch {
      return;
    }
    // The service has seen this connection close and has dropped its subscriptions.
    if (frame.code === "connection_closed") return end();
    if (frame.type ? ANSWERS.test(frame.type) : frame.message && !frame.event) {
      answer?.(frame);
      answer = undefined;
    }
    heard();
    if (/^(viral_alert|alert_removed)$/.test(frame.type!)) onAlert(frame as unknown as Logged);
  };
  // In Node.js 22 no `close` follows an error of the handshake.
  socket.onerror = socket.onclose = ({ code }: { code?: number }) => end(code);
  return connection;
}
