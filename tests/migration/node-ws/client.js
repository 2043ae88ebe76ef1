// A chat in the terminal: sends what is typed to the room, and prints what arrives.
//
//   client.js ws://host:8080 USER [ROOM]

import { createInterface } from "node:readline";
import WebSocket from "ws";

const HEARTBEAT_MS = Number(process.env.HEARTBEAT_MS ?? 30000);
const [url, user, room] = process.argv.slice(2);
let delay = 1000;
let socket;

function connect() {
  const ws = new WebSocket(url);
  socket = ws;
  ws.isAlive = true;
  const heartbeat = setInterval(() => {
    if (!ws.isAlive) return ws.terminate();
    ws.isAlive = false;
    ws.ping();
  }, HEARTBEAT_MS);
  ws.on("pong", () => {
    ws.isAlive = true;
    console.log("alive");
  });
  ws.on("open", () => {
    delay = 1000;
    console.log("connected");
    if (room) send({ type: "join", room });
  });
  ws.on("message", (data) => console.log(data.toString()));
  ws.on("error", (error) => console.log("error:", error.message));
  ws.on("close", (code) => {
    clearInterval(heartbeat);
    console.log("closed:", code);
    setTimeout(connect, delay);
    delay = Math.min(delay * 2, 30000);
  });
}

const send = (message) => socket.send(JSON.stringify(message));

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "/typing") send({ type: "typing", user });
  else if (line.startsWith("/echo ")) send({ type: "echo", text: line.slice(6) });
  else if (line.startsWith("/raw ")) socket.send(line.slice(5));
  // Changed: was `socket.send(line)`, a text that the server sent to every client.
  else send({ type: "chat", user, message: line, timestamp: new Date().toISOString() });
});

connect();
