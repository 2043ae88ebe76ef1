// The functions of the chat: nothing in them knows apigw-local.

import {
  ApiGatewayManagementApiClient,
  GoneException,
  PostToConnectionCommand,
} from "@aws-sdk/client-apigatewaymanagementapi";
import { DeleteItemCommand, DynamoDBClient, paginateScan, PutItemCommand } from "@aws-sdk/client-dynamodb";

const client = new DynamoDBClient();
const TableName = process.env.CONNECTIONS_TABLE;

export async function connect({ requestContext: { connectionId } }) {
  await client.send(new PutItemCommand({ TableName, Item: { id: { S: connectionId } } }));
  return { statusCode: 200 };
}

export async function disconnect({ requestContext: { connectionId } }) {
  await client.send(new DeleteItemCommand({ TableName, Key: { id: { S: connectionId } } }));
  return { statusCode: 200 };
}

export async function send({ requestContext: { domainName, stage }, body }) {
  const { text } = JSON.parse(body);
  const gateway = new ApiGatewayManagementApiClient({ endpoint: `https://${domainName}/${stage}` });
  const post = async (ConnectionId) => {
    try {
      await gateway.send(new PostToConnectionCommand({ ConnectionId, Data: text }));
    } catch (error) {
      // It has left since the table was read.
      if (!(error instanceof GoneException)) throw error;
    }
  };
  for await (const { Items } of paginateScan({ client }, { TableName }))
    await Promise.all(Items.map(({ id }) => post(id.S)));
  return { statusCode: 200 };
}
