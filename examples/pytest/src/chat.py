"""The functions of the chat: nothing in them knows apigw-local."""

import json
import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["CONNECTIONS_TABLE"])


def connect(event, context):
    table.put_item(Item={"id": event["requestContext"]["connectionId"]})
    return {"statusCode": 200}


def disconnect(event, context):
    table.delete_item(Key={"id": event["requestContext"]["connectionId"]})
    return {"statusCode": 200}


def send(event, context):
    request = event["requestContext"]
    gateway = boto3.client(
        "apigatewaymanagementapi", endpoint_url=f"https://{request['domainName']}/{request['stage']}"
    )
    text = json.loads(event["body"])["text"]
    pages = table.meta.client.get_paginator("scan").paginate(TableName=table.name)
    for connection in (item["id"] for page in pages for item in page["Items"]):
        try:
            gateway.post_to_connection(ConnectionId=connection, Data=text)
        except gateway.exceptions.GoneException:
            pass  # It has left since the table was read.
    return {"statusCode": 200}
