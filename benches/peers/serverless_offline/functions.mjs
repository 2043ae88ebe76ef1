// Connections are kept in memory, as all functions run in one process: a table would only make it slower.

import { Agent } from "node:http";
import { ApiGatewayManagementApiClient, PostToConnectionCommand } from "@aws-sdk/client-apigatewaymanagementapi";

const connections = (globalThis.connections ??= new Set());

const management = new ApiGatewayManagementApiClient({
  endpoint: process.env.MANAGEMENT_ENDPOINT,
  region: "eu-central-1",
  credentials: { accessKeyId: "local", secretAccessKey: "local" },
  requestHandler: { httpAgent: new Agent({ keepAlive: true, maxSockets: 64 }) },
});

export async function connect({ requestContext: { connectionId } }) {
  connections.add(connectionId);
  return { statusCode: 200 };
}

export async function disconnect({ requestContext: { connectionId } }) {
  connections.delete(connectionId);
  return { statusCode: 200 };
}

export async function publish({ body }) {
  const post = (ConnectionId) => management.send(new PostToConnectionCommand({ ConnectionId, Data: body }));
  await Promise.all([...connections].map(post));
  return { statusCode: 200 };
}
