// Clients in Node.js: ws, and the AWS SDK for JavaScript led by the variables that the local mode prints.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import {
  ApiGatewayManagementApiClient,
  DeleteConnectionCommand,
  ForbiddenException,
  GetConnectionCommand,
  GoneException,
  PayloadTooLargeException,
  PostToConnectionCommand,
} from "@aws-sdk/client-apigatewaymanagementapi";
import WebSocket from "ws";
import { publish as publishTo, startLocal, stopLocal } from "../local.mjs";

/** Sizes in bytes. Source: quotas of API Gateway. */
const FRAME_MAX = 32 * 1024;
const MESSAGE_MAX = 128 * 1024;
/** Bound of every wait, in milliseconds. */
const WAIT_MAX = 10_000;
/** A well-formed id that no connection has had. */
const UNKNOWN_ID = "eHrdFcnvvHcCE-w=";

let local;
let regions = 0;

before(async () => {
  local = await startLocal();
  Object.assign(process.env, local.variables);
});
after(() => local && stopLocal(local));

/** A region that no other test watches. */
const newRegion = () => `JS-${regions++}`;
const soon = (emitter, event) => once(emitter, event, { signal: AbortSignal.timeout(WAIT_MAX) });

/** Opens a socket until the test ends. Its messages wait for `receive`. */
async function open(t, { address = local.webSocketAddress, protocols = [], ...options } = {}) {
  const socket = new WebSocket(address, protocols, options);
  t.after(() => socket.terminate());
  const messages = [];
  socket.on("message", (data, isBinary) => messages.push({ text: data.toString(), isBinary }));
  socket.receive = async () => {
    if (messages.length === 0) await soon(socket, "message");
    const { text, isBinary } = messages.shift();
    assert.equal(isBinary, false);
    return text;
  };
  await soon(socket, "open");
  return socket;
}

async function subscribe(socket, region) {
  socket.send(JSON.stringify({ type: "subscribe_region", region }));
  const answer = JSON.parse(await socket.receive());
  assert.deepEqual([answer.type, answer.region], ["subscribed", region]);
}

async function publish(region, title) {
  const { published } = await publishTo(local.address, region, { title, thumbnail: "" });
  assert.equal(published, true);
}

/** A socket that watches a region of its own, and its connection id as the page shows it. */
async function connected(t, options) {
  const socket = await open(t, options);
  const region = newRegion();
  await subscribe(socket, region);
  const { connections } = await (await fetch(`${local.address}local.json`)).json();
  const { connectionId } = connections.find(({ audiences }) => audiences.includes(region));
  return { socket, region, connectionId };
}

/** Returns the code and reason of the gateway's close frame. */
async function closed(socket) {
  const [code, reason] = await soon(socket, "close");
  return [code, reason.toString()];
}

const pong = async (socket) => assert.deepEqual(JSON.parse(await socket.receive()), { type: "pong" });
const PING = '{"type":"ping"}';

test("ws: an alert arrives", async (t) => {
  const { socket, region } = await connected(t);
  await publish(region, "Zażółć gęślą jaźń 🎉");
  const { type, video } = JSON.parse(await socket.receive());
  assert.deepEqual([type, video.title], ["viral_alert", "Zażółć gęślą jaźń 🎉"]);
});

test("ws: compression is offered and declined", async (t) => {
  const socket = await open(t, { perMessageDeflate: true });
  assert.equal(socket.extensions, "");
  socket.send(PING);
  await pong(socket);
});

test("ws: a subprotocol that $connect does not return ends the handshake, as ws insists on one", async (t) => {
  await assert.rejects(open(t, { protocols: ["chat"] }), { message: "Server sent no subprotocol" });
});

test("ws: fragments are joined, up to 128 KB in frames of 32 KB", async (t) => {
  const socket = await open(t);
  socket.send('{"type":', { fin: false });
  socket.send('"pi', { fin: false });
  socket.send('ng"}', { fin: true });
  await pong(socket);
  const frames = [PING.padEnd(FRAME_MAX), ...Array(3).fill(" ".repeat(FRAME_MAX))];
  frames.forEach((frame, index) => socket.send(frame, { fin: index === frames.length - 1 }));
  await pong(socket);
  for (const frame of frames) socket.send(frame, { fin: false });
  socket.send(" ", { fin: true });
  assert.equal((await closed(socket))[0], 1009);
});

test("ws: a frame of 32 KB is taken and a larger one ends the connection", async (t) => {
  const socket = await open(t);
  socket.send(PING.padEnd(FRAME_MAX));
  await pong(socket);
  socket.send(PING.padEnd(FRAME_MAX + 1));
  assert.equal((await closed(socket))[0], 1009);
});

test("ws: a ping is answered with its data", async (t) => {
  const socket = await open(t);
  socket.ping("data");
  assert.equal((await soon(socket, "pong"))[0].toString(), "data");
});

test("ws: a close is answered with the same status", async (t) => {
  for (const [code, reason] of [
    [1000, ""],
    [1001, "moving on"],
    [4321, "zażółć"],
  ]) {
    const socket = await open(t);
    socket.close(code, reason);
    assert.equal((await closed(socket))[0], code);
  }
  const socket = await open(t);
  socket.close();
  assert.equal((await closed(socket))[0], 1005, "no status is answered with none");
});

test("ws: a binary message is refused", async (t) => {
  const socket = await open(t);
  socket.send(Buffer.from("{}"));
  assert.equal((await closed(socket))[0], 1003);
});

test("ws: a client that wants less than it is sent closes, and the gateway forgets it", async (t) => {
  const { socket, region, connectionId } = await connected(t, { maxPayload: 512 });
  const failed = soon(socket, "error");
  await publish(region, "新".repeat(200));
  assert.equal((await failed)[0].code, "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH");
  await assert.rejects(untilGone(connectionId), GoneException);
});

test("ws: a refused handshake tells its status", async (t) => {
  for (const [more, status] of [
    ["?region=P", 400],
    ["x", 403],
  ]) {
    await assert.rejects(open(t, { address: local.webSocketAddress + more }), {
      message: `Unexpected server response: ${status}`,
    });
  }
});

test("ws: the same port speaks TLS", async (t) => {
  // Only functions trust the local certificate authority.
  const socket = await open(t, { address: local.webSocketAddress.replace("ws:", "wss:"), rejectUnauthorized: false });
  socket.send(PING);
  await pong(socket);
});

/** A client without retries: a refusal has to come at the first attempt. */
const management = (options) => new ApiGatewayManagementApiClient({ maxAttempts: 1, ...options });
const post = (ConnectionId, Data = "x") => new PostToConnectionCommand({ ConnectionId, Data });

/** Asks for a connection until the answer is an error. */
async function untilGone(ConnectionId) {
  const end = Date.now() + WAIT_MAX;
  while (Date.now() < end) await management().send(new GetConnectionCommand({ ConnectionId }));
}

test("SDK: it posts to a connection, asks about it and closes it", async (t) => {
  const client = management();
  const { socket, connectionId: ConnectionId } = await connected(t);
  await client.send(post(ConnectionId, "zażółć 🎉"));
  assert.equal(await socket.receive(), "zażółć 🎉");
  const { Identity, ConnectedAt, LastActiveAt } = await client.send(new GetConnectionCommand({ ConnectionId }));
  assert.equal(Identity.SourceIp, "127.0.0.1");
  assert.ok(ConnectedAt <= LastActiveAt && Math.abs(Date.now() - ConnectedAt) < WAIT_MAX);
  const ended = closed(socket);
  await client.send(new DeleteConnectionCommand({ ConnectionId }));
  assert.deepEqual(await ended, [1000, "Connection Closed Normally"]);
  for (const command of [
    post(ConnectionId),
    new GetConnectionCommand({ ConnectionId }),
    new DeleteConnectionCommand({ ConnectionId }),
  ]) {
    await assert.rejects(
      client.send(command),
      (error) => error instanceof GoneException && error.$metadata.httpStatusCode === 410,
    );
  }
});

test("SDK: data of 128 KB arrives and one byte more is refused", async (t) => {
  const { socket, connectionId } = await connected(t, { maxPayload: MESSAGE_MAX });
  const data = "x".repeat(MESSAGE_MAX);
  await management().send(post(connectionId, data));
  assert.equal(await socket.receive(), data);
  for (const excess of ["x", data.repeat(8)]) {
    await assert.rejects(management().send(post(connectionId, data + excess)), PayloadTooLargeException);
  }
});

test("SDK: errors have their names", async () => {
  await assert.rejects(management().send(post(UNKNOWN_ID)), GoneException);
  await assert.rejects(management().send(post("malformed")), {
    name: "BadRequestException",
    message: "Invalid connectionId: malformed",
  });
  const elsewhere = management({ endpoint: `${local.variables.AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI}x` });
  await assert.rejects(elsewhere.send(post(UNKNOWN_ID)), ForbiddenException);
});
