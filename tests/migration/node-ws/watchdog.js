// Notifications, over a connection that is given up when nothing is heard of the server.  watchdog.js ws://host:8080

import WebSocket from "ws";

const HEARTBEAT_MS = Number(process.env.HEARTBEAT_MS ?? 30000);

function connect() {
  const ws = new WebSocket(process.argv[2]);
  let timeout;
  function heard() {
    clearTimeout(timeout);
    timeout = setTimeout(() => ws.terminate(), HEARTBEAT_MS + 1000);
    console.log("heard");
  }
  // Changed: this line is new. The service sends no pings, so the client does, and hears pongs.
  const pings = setInterval(() => ws.readyState === WebSocket.OPEN && ws.ping(), HEARTBEAT_MS);
  ws.on("open", heard);
  // Changed: was `ws.on("ping", heard);`.
  ws.on("pong", heard);
  ws.on("message", (data) => {
    const message = JSON.parse(data);
    // Changed: was `message.type === "alert"` and `message.text`.
    if (message.event === "new_trending") console.log("notification:", message.title);
  });
  ws.on("error", (error) => console.log("error:", error.message));
  ws.on("close", (code) => {
    clearTimeout(timeout);
    // Changed: this line is new.
    clearInterval(pings);
    console.log("closed:", code);
    setTimeout(connect, 1000);
  });
}

connect();
