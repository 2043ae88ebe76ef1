"""Calls every AWS service of the emulator with AWS_ENDPOINT_URL alone, and some that are not there."""

import json
import os

for name in list(os.environ):
    if name.startswith("AWS_ENDPOINT_URL_"):
        del os.environ[name]

import boto3  # noqa: E402: it reads the variables.
from botocore.exceptions import ClientError  # noqa: E402

clients = {}


def call(service, operation, **arguments):
    client = clients.setdefault(service, boto3.client(service))
    return getattr(client, operation)(**arguments)


def refused(service, operation, code, **arguments):
    try:
        call(service, operation, **arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
    else:
        raise AssertionError(f"{service}.{operation} did not fail")


def body(queue):
    received = call("sqs", "receive_message", QueueUrl=queue, WaitTimeSeconds=15)
    return received["Messages"][0]["Body"]


[table] = call("dynamodb", "list_tables")["TableNames"]
call("dynamodb", "put_item", TableName=table, Item={"id": {"S": "a"}})
queue = call("sqs", "get_queue_url", QueueName="jobs")["QueueUrl"]
topic = "arn:aws:sns:eu-central-1:000000000000:topic"
call("sns", "publish", TopicArn=topic, Message="of the topic")
assert json.loads(body(queue))["Message"] == "of the topic"
entry = {"Source": "test", "DetailType": "new", "Detail": "{}"}
assert call("events", "put_events", Entries=[entry])["FailedEntryCount"] == 0
assert json.loads(body(queue))["source"] == "test"
setting = call("ssm", "get_parameter", Name="/setting")
assert setting["Parameter"]["Value"] == "here", setting
assert call("lambda", "invoke", FunctionName="Message", Payload="{}")["StatusCode"] == 200
refused("apigatewaymanagementapi", "post_to_connection", "GoneException", ConnectionId="Gto47d9-DoECGqg=", Data=b"x")
refused("s3", "list_buckets", "UnknownService")
refused("sts", "get_caller_identity", "UnknownService")
refused("logs", "describe_log_groups", "UnknownService")
refused("secretsmanager", "get_secret_value", "UnknownService", SecretId="x")
print("all")
