// A Node.js server as small projects run it: what is posted goes to every socket.

import { createServer } from "node:http";
import { createRequire } from "node:module";

// The `ws` that the tests install.
const { WebSocketServer } = createRequire(new URL("../../tests/clients/package.json", import.meta.url))("ws");

const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1", backlog: 4096, perMessageDeflate: false });
const posts = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const text = Buffer.concat(parts).toString();
  for (const socket of sockets.clients) socket.send(text);
  response.end();
});
await new Promise((listening) => posts.listen(0, "127.0.0.1", listening));
if (!sockets.address()) await new Promise((listening) => sockets.once("listening", listening));
console.log(`ready ws://127.0.0.1:${sockets.address().port}/ http://127.0.0.1:${posts.address().port}/`);
