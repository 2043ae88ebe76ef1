// What a browser has and Node.js 20 does not.

import { EventSource } from "eventsource";
import { WebSocket } from "ws";

globalThis.WebSocket ??= WebSocket;
globalThis.EventSource ??= EventSource;
