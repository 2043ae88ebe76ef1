// Globals of a browser that Node.js 20 lacks. The WebSocket of 22 is not closed where its handshake fails.

import { EventSource } from "eventsource";
import { WebSocket } from "ws";

globalThis.WebSocket = WebSocket;
globalThis.EventSource ??= EventSource;
