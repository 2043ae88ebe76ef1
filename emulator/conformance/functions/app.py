"""The functions of the conformance suite: they do what they are told and tell what they were given.

Told by query parameters at $connect and by the fields of a JSON message:

  post      text to post to the connection that this event belongs to; the status is told to the observer
  identify  post the id of the connection to the connection itself
  sleep     seconds, at most SLEEP_SECS_MAX
  throw     message of an exception
  return    what the function returns, instead of its own answer

At $connect the authorizer obeys the parameter `authorizer`, an object with throw, effect, resource, context or return.

Every event goes to an observer, a second connection of whoever runs the suite. The header X-Observer of the handshake
names it, with a word by which the observer knows the connection. The authorizer puts it into its context, and so every
later event of the connection carries it: nothing is stored.

Requests of the HTTP API and the REST API are told by query parameters: sleep, throw and return. Without them the answer
is the event itself, as JSON.
"""

import hmac
import json
import os
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# The suite needs 11 s to exceed the time of the $connect integration.
SLEEP_SECS_MAX = 15

# Longer messages are told by their length: what is posted must be smaller than 128 KB.
TOLD_CHARACTERS_MAX = 1024

# A status is wanted as it comes, not after retries.
connections = boto3.client("apigatewaymanagementapi", config=Config(retries={"total_max_attempts": 1}))


def authorize(event, context):
    headers = lowered(event)
    if not is_token(event.get("authorizationToken") or headers.get("x-conformance", "")):
        raise Exception("Unauthorized")
    observer = headers.get("x-observer", "")
    tell(observer, "authorizer", event)
    command = commands(event).get("authorizer", {})
    if "throw" in command:
        raise Exception(command["throw"])
    if "return" in command:
        return command["return"]
    told = {"observer": observer, **command.get("context", {})}
    if event.get("version") == "2.0":
        return {"isAuthorized": command.get("effect") != "Deny", "context": told}
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": command.get("effect", "Allow"),
        "Resource": command.get("resource", event["methodArn"]),
    }
    return {
        "principalId": "conformance",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": told,
    }


def handle(event, context):
    request = event["requestContext"]
    if "connectionId" not in request:
        return respond(event)
    connection = request["connectionId"]
    command = commands(event)
    more = {}
    if "identify" in command:
        post(connection, connection)
    if "post" in command:
        more["posted"] = post(connection, command["post"])
    observer = (request.get("authorizer") or {}).get("observer") or lowered(event).get("x-observer", "")
    tell(observer, "handler", event, **more)
    sleep_or_throw(command)
    if "return" in command:
        return command["return"]
    if request["eventType"] != "MESSAGE":
        return {"statusCode": 200}
    body = event["body"]
    return {"statusCode": 200, "body": body if len(body) <= TOLD_CHARACTERS_MAX else f"{len(body)} characters"}


def respond(event):
    """Answers a request of the HTTP API or the REST API."""
    # Not every route has an authorizer.
    if not is_token(lowered(event).get("x-conformance", "")):
        return {"statusCode": 403, "body": "the header X-Conformance does not have the token"}
    command = {name: parsed(value) for name, value in (event.get("queryStringParameters") or {}).items()}
    sleep_or_throw(command)
    if "return" in command:
        return command["return"]
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": json.dumps(event)}


def sleep_or_throw(command):
    if "sleep" in command:
        time.sleep(min(float(command["sleep"]), SLEEP_SECS_MAX))
    if "throw" in command:
        raise Exception(command["throw"])


def carry(event, context):
    """Tells what a queue, a topic, a stream or a bus has brought, with the observer that it carries.

    Told by the data of the message:

      fail      at the first time: `throw`, or `report` to return the message as failed
    """
    failed = []
    for by, observer, data, record in carried(event):
        tell(observer, by, {"requestContext": {"eventType": "RECORD"}, "record": record})
        if record.get("attributes", {}).get("ApproximateReceiveCount") == "1":
            if data.get("fail") == "throw":
                raise Exception("it broke")
            if data.get("fail") == "report":
                failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def carried(event):
    """What came, by what, with the observer and the data of its message."""
    if "detail" in event:
        yield "bus", event["detail"]["observer"], event["detail"]["data"], event
    for record in event.get("Records", []):
        if "dynamodb" in record:
            image = record["dynamodb"]["NewImage"]
            yield "stream", image["observer"]["S"], parsed(image["data"]["S"]), record
        elif "Sns" in record:
            message = record["Sns"]
            yield "topic", message["MessageAttributes"]["observer"]["Value"], parsed(message["Message"]), record
        else:
            yield "queue", record["messageAttributes"]["observer"]["stringValue"], parsed(record["body"]), record


def is_token(text):
    return hmac.compare_digest(text.encode(), os.environ["TOKEN"].encode())


def lowered(event):
    return {name.lower(): value for name, value in (event.get("headers") or {}).items()}


def commands(event):
    """What the event tells the function to do."""
    # Some emulators have an empty body at $connect.
    if not event.get("body"):
        return {name: parsed(value) for name, value in (event.get("queryStringParameters") or {}).items()}
    body = parsed(event["body"])
    return body if isinstance(body, dict) else {}


def parsed(text):
    """JSON where it is some, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def tell(observer, by, event, **more):
    connection, _, client = observer.partition(" ")
    if not client:
        return
    if len(event.get("body") or "") > TOLD_CHARACTERS_MAX:
        event = {**event, "body": f"{len(event['body'])} characters"}
    post(connection, json.dumps({"client": client, "by": by, "event": event, **more}))


def post(connection, text):
    """Posts, and returns the status and kind of the answer."""
    try:
        response = connections.post_to_connection(ConnectionId=connection, Data=str(text).encode())
        return {"status": response["ResponseMetadata"]["HTTPStatusCode"]}
    except ClientError as error:
        return {"status": error.response["ResponseMetadata"]["HTTPStatusCode"], "kind": error.response["Error"]["Code"]}
