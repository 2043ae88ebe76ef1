// Globals of a browser that Node.js 20 lacks.

import { EventSource } from "eventsource";
import { WebSocket } from "ws";

globalThis.WebSocket ??= WebSocket;
globalThis.EventSource ??= EventSource;
