// Runs beside the emulator, whose addresses are in the environment: see the script "test" in package.json.

import { DynamoDBClient, ScanCommand } from "@aws-sdk/client-dynamodb";
import { once } from "node:events";
import { beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";

const { APIGW_LOCAL_WS_URL, APIGW_LOCAL_HTTP_URL, CONNECTIONS_TABLE } = process.env;

// Closes all connections, waits for what functions do, and empties all tables.
beforeEach(async () => {
  const { ok } = await fetch(new URL("/reset", APIGW_LOCAL_HTTP_URL), { method: "POST" });
  expect(ok).toBe(true);
});

async function connected() {
  const socket = new WebSocket(APIGW_LOCAL_WS_URL);
  await once(socket, "open");
  return socket;
}

async function message(socket) {
  const [data] = await once(socket, "message");
  return data.toString();
}

async function count() {
  const { Count } = await new DynamoDBClient().send(new ScanCommand({ TableName: CONNECTIONS_TABLE }));
  return Count;
}

test("a message reaches everyone who is connected", async () => {
  const [ada, ben] = [await connected(), await connected()];
  const messages = [message(ada), message(ben)];
  ada.send(JSON.stringify({ action: "send", text: "hello" }));
  expect(await Promise.all(messages)).toEqual(["hello", "hello"]);
  expect(await count()).toBe(2);
});

test("nobody of the test before is there any more", async () => {
  expect(await count()).toBe(0);
  await connected();
  expect(await count()).toBe(1);
});
