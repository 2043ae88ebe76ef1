// One WebSocket: requests one at a time, keepalive, and the discovery that the other side is gone.

import { ANSWER_MS, TIMER_MS_MAX } from "./limits.js";
import type { Answer, ErrorNews, Kept, Logged } from "./news.js";
import type { WebSocketLike } from "./types.js";

/** A frame of the service, or of the gateway itself, which has no type and a message. */
export type Frame = Partial<Answer & Kept & ErrorNews> & { type?: string; event?: string; retryable?: boolean; retry_after_ms?: number };

/** Types of frames that answer a question. Others are pushed, and may be of a kind that this client does not know. */
const ANSWERS = /^((un)?subscribed|kept|error)$/;

export interface Connection {
  /** Regions that the service has acknowledged here. */
  readonly acknowledged: Set<string>;
  /** Whether questions are being asked. */
  busy: boolean;
  /** Whether a keepalive is due. */
  idle: boolean;
  opened: boolean;
  /** When a frame arrived last, in milliseconds since 1970. */
  heardAt: number;
  /** Sends a message and resolves with its answer; never, once the connection has ended. One at a time. */
  exchange(message: object): Promise<Frame>;
  /** Asks for a sign of life. */
  ping(): void;
  close(): void;
}

/**
 * `onReady` is called when the connection has opened, and each time that a keepalive is due; `onEnd` when it ends and `close` was
 * not called, with the close code if there is one.
 */
export function createConnection(
  socket: WebSocketLike,
  keepaliveMs: number,
  onReady: () => void,
  onAlert: (alert: Logged) => void,
  onEnd: (code?: number) => void,
): Connection {
  let answer: ((frame: Frame) => void) | undefined;
  let deadline: ReturnType<typeof setTimeout> | undefined;
  let keepalive: ReturnType<typeof setTimeout> | undefined;
  let closed = false;

  /** Something has to arrive in time: a peer that is gone does not say so. */
  const expect = (): void => {
    clearTimeout(deadline);
    deadline = setTimeout(() => end(), ANSWER_MS);
  };

  /** Something arrived. */
  const heard = (): void => {
    connection.heardAt = Date.now();
    if (!answer) clearTimeout(deadline);
  };

  const send = (message: object): void => {
    if (socket.readyState === 1) socket.send(JSON.stringify(message));
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
    opened: false,
    heardAt: 0,
    exchange: (message) =>
      new Promise((resolve) => {
        answer = resolve;
        send(message);
      }),
    ping: () => send({ type: "ping" }),
    close() {
      closed = true;
      clearTimeout(deadline);
      clearTimeout(keepalive);
      socket.close(1000);
    },
  };

  expect();
  socket.onopen = () => {
    if (closed) return;
    connection.opened = true;
    heard();
    // Whatever arrives meanwhile: it says nothing about the subscriptions of other regions.
    keepalive = setInterval(() => {
      connection.idle = true;
      onReady();
    }, Math.min(keepaliveMs, TIMER_MS_MAX));
    onReady();
  };
  socket.onmessage = ({ data }) => {
    if (closed) return;
    let frame: Frame;
    try {
      // What is no object is an answer that says nothing.
      frame = Object(JSON.parse(String(data))) as Frame;
    } catch {
      return;
    }
    // The service has seen this connection close, and keeps nothing for it any more.
    if (frame.code === "connection_closed") return end();
    let resolve: typeof answer;
    if (frame.type ? ANSWERS.test(frame.type) : frame.message && !frame.event) {
      resolve = answer;
      answer = undefined;
    }
    heard();
    if (/^(viral_alert|alert_removed)$/.test(frame.type!)) onAlert(frame as unknown as Logged);
    resolve?.(frame);
  };
  // Of an error nothing is known but that `close` follows.
  socket.onerror = () => {};
  socket.onclose = ({ code }) => end(code);
  return connection;
}
