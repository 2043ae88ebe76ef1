// Uses public applications in the emulator as their READMEs say. tests/samples/run fetches them and starts this.

import assert from "node:assert/strict";
import { once } from "node:events";
import { openSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { ROOT, startLocal, stopLocal } from "../local.mjs";

const SAMPLES = path.join(ROOT, "target/samples");
const require = createRequire(`${SAMPLES}/`);
const { DynamoDBClient, ScanCommand } = require("@aws-sdk/client-dynamodb");
const WebSocket = require("ws");

/** Bound of every wait, in milliseconds. The first invocation of a function starts a process that loads an SDK. */
const WAIT_MAX = 30_000;

const soon = (emitter, event) => once(emitter, event, { signal: AbortSignal.timeout(WAIT_MAX) });

/** A WebSocket client that queues messages until `receive` takes them. */
class Client {
  #socket;
  #messages = [];

  static async connect(t, local, headers = {}) {
    const client = new Client();
    client.#socket = new WebSocket(local.webSocketAddress, { headers });
    t.after(() => client.#socket.terminate());
    client.#socket.on("message", (data) => client.#messages.push(data.toString()));
    await soon(client.#socket, "open");
    return client;
  }

  send(message) {
    this.#socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  async receive() {
    if (this.#messages.length === 0) await soon(this.#socket, "message");
    return this.#messages.shift();
  }

  async close() {
    this.#socket.close();
    await soon(this.#socket, "close");
  }
}

/** Starts the emulator with a sample's template, in the sample's directory. Its log is beside that directory. */
async function start(t, sample, template = "template.yaml") {
  const directory = path.join(SAMPLES, sample);
  const log = `${path.join(SAMPLES, sample.replaceAll("/", "-"))}.log`;
  t.diagnostic(`log: ${path.relative(ROOT, log)}`);
  const options = { program: "apigw-local", directory, log: openSync(log, "w") };
  const local = await startLocal(["--template", template], options);
  t.after(() => stopLocal(local));
  return local;
}

/** Waits until a table has `count` items, and returns them. */
async function items(local, TableName, count) {
  const { AWS_REGION, AWS_ENDPOINT_URL_DYNAMODB, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = local.variables;
  const credentials = { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY };
  const client = new DynamoDBClient({ region: AWS_REGION, endpoint: AWS_ENDPOINT_URL_DYNAMODB, credentials });
  for (const end = Date.now() + WAIT_MAX; ; ) {
    const { Items } = await client.send(new ScanCommand({ TableName }));
    if (Items.length === count) return Items;
    assert.ok(Date.now() < end, `${TableName} has ${Items.length} items, not ${count}`);
  }
}

/** Tests a chat that sends each message to every connection, and stores connections in `table`. */
async function chat(t, local, action, table) {
  const [one, two] = [await Client.connect(t, local), await Client.connect(t, local)];
  await items(local, table, 2);
  one.send({ action, data: "hello world" });
  assert.deepEqual([await one.receive(), await two.receive()], ["hello world", "hello world"]);
  await two.close();
  await items(local, table, 1);
  one.send({ action, data: "still here" });
  assert.equal(await one.receive(), "still here");
}

test("simple-websockets-chat-app: a message reaches every connection, and closed ones are removed", async (t) => {
  await chat(t, await start(t, "simple-websockets-chat-app"), "sendmessage", "simplechat_connections");
});

test("apigw-websocket-api-lambda: the same with version 2 of the SDK", async (t) => {
  const local = await start(t, "serverless-patterns/apigw-websocket-api-lambda", "template.yml");
  await chat(t, local, "post", "local-websocket_connections");
});

test("apigw-websocket-ack-connect-route: every new connection gets a greeting", async (t) => {
  const local = await start(t, "serverless-patterns/apigw-websocket-ack-connect-route", "template.yml");
  for (let times = 0; times < 2; times++) {
    const client = await Client.connect(t, local);
    assert.equal(await client.receive(), "Hello XXX, we are now connected!! ");
  }
});

test("serverless-websocket-chat: names, channels, and messages to the others in a channel", async (t) => {
  const local = await start(t, "serverless-websocket-chat");
  const [one, two] = [await Client.connect(t, local), await Client.connect(t, local)];
  one.send("hi");
  assert.equal(await two.receive(), "#general anonymous: hi");
  one.send("/name bz");
  assert.equal(await one.receive(), "Set username to bz");
  one.send("zażółć 🎉");
  assert.equal(await two.receive(), "#general bz: zażółć 🎉");
  two.send("/channel random");
  assert.equal(await two.receive(), "Changed to #random");
  one.send("nobody is here any more");
  two.send("/help");
  assert.equal(await two.receive(), "Valid commands: /help, /name [NAME], /channel [CHAN_NAME]");
  one.send("/channel random");
  assert.equal(await one.receive(), "Changed to #random");
  two.send("found you");
  assert.equal(await one.receive(), "#random anonymous: found you");
});

test("aws-sam-lambda-apigw-websocket-chat-app: messages are stored and reach the others", async (t) => {
  const local = await start(t, "aws-sam-lambda-apigw-websocket-chat-app");
  const [one, two] = [await Client.connect(t, local), await Client.connect(t, local)];
  one.send("no JSON");
  const forbidden = /^\{"message": "Forbidden", "connectionId":"[\w-]{15}=", "requestId":"[\w-]{15}="\}$/;
  assert.match(await one.receive(), forbidden);
  const message = { action: "sendmessage", time: "2026-11-22T12:00:00", from: "one", message: "xin chào" };
  one.send(message);
  assert.deepEqual(JSON.parse(await two.receive()), message);
  const [kept] = await items(local, "messages_table", 1);
  assert.equal(kept.message.S, "xin chào");
});

test("sam-websocket-dev-kit: a post to the connection answers messages with and without a route", async (t) => {
  const local = await start(t, "sam-websocket-dev-kit/sam-app");
  const client = await Client.connect(t, local);
  for (const [action, route] of [["customAction", "customAction"], ["anything", "$default"]]) {
    client.send({ action, message: "hello" });
    const answer = JSON.parse(await client.receive());
    assert.deepEqual([answer.route, answer.recievedMessage], [route, "hello"]);
    assert.match(answer.connectionId, /^[\w-]{15}=$/);
  }
});

test("apigw-websocket-mapping-template-authorizer: a header authorizes, and a template maps the event", async (t) => {
  const local = await start(t, "serverless-patterns/apigw-websocket-mapping-template-authorizer");
  await assert.rejects(Client.connect(t, local), /401/);
  const client = await Client.connect(t, local, { token: "hello" });
  await items(local, "connection_table", 1);
  client.send({ action: "sendmessage", message: "hey queen" });
  assert.equal(await client.receive(), "good job on deploying this template, keep slaying!!");
});
