"""Python's clients against the local mode: websockets, and boto3 led by the variables that the local mode prints.

python.test.mjs starts both. Each test has a region of its own, by which it finds its connection.
"""

import asyncio
import json
import os
import ssl
import sys
import time
import unittest
import urllib.request
import warnings
from itertools import count
from pathlib import Path

import boto3
import websockets
from botocore.config import Config
from botocore.exceptions import ClientError
from websockets.asyncio.client import connect

WEBSOCKET_ADDRESS = os.environ["WEBSOCKET_ADDRESS"]
HTTP_ADDRESS = os.environ["HTTP_ADDRESS"]
MANAGEMENT_ADDRESS = os.environ["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"]

# Of the local mode, whose stack has the name "local".
SCORER_SOURCE = "viral-alerts.scorer.local"
# A stack of its own that publishes.
PUBLISHER = Path(__file__).parents[1] / "publisher"

# Bound of every wait, in seconds.
WAIT_MAX = 10
# Sizes in bytes. Source: quotas of API Gateway.
FRAME_MAX = 32 * 1024
MESSAGE_MAX = 128 * 1024
# An id of the right form that was never given out.
UNKNOWN_ID = "eHrdFcnvvHcCE-w="

regions = (f"PY-{number}" for number in count())


def publish(region, title="Zażółć gęślą jaźń 🎉"):
    video = {"id": "v1", "title": title, "thumbnail": "", "score": 97}
    body = json.dumps({"region": region, "video": video}).encode()
    with urllib.request.urlopen(HTTP_ADDRESS, body, timeout=WAIT_MAX) as response:
        answer = json.load(response)
    assert answer["published"], answer
    return title


async def subscribe(socket, region):
    await socket.send(json.dumps({"type": "subscribe_region", "region": region}))
    answer = json.loads(await receive(socket))
    assert (answer["type"], answer["region"]) == ("subscribed", region)


async def receive(socket):
    return await asyncio.wait_for(socket.recv(), WAIT_MAX)


async def closed(socket):
    """What the close frame of the gateway says."""
    try:
        frame = await receive(socket)
    except websockets.ConnectionClosed as end:
        return end.rcvd.code, end.rcvd.reason
    raise AssertionError(f"a close frame is due, not {frame}")


def management(address=MANAGEMENT_ADDRESS, **options):
    # What is refused has to arrive at once, not after retries.
    config = Config(retries={"total_max_attempts": 1})
    return boto3.client("apigatewaymanagementapi", endpoint_url=address, config=config, **options)


def connection_of(region):
    """The id of the only connection that watches a region, from the table of the template."""
    query = {
        "TableName": "SubscriptionsTable",
        "KeyConditionExpression": "audience = :region",
        "ExpressionAttributeValues": {":region": {"S": region}},
    }
    (item,) = boto3.client("dynamodb").query(**query)["Items"]
    return item["connection_id"]["S"]


class WebSockets(unittest.IsolatedAsyncioTestCase):
    async def test_an_alert_arrives(self):
        region = next(regions)
        async with connect(WEBSOCKET_ADDRESS) as socket:
            await subscribe(socket, region)
            title = await asyncio.to_thread(publish, region)
            alert = json.loads(await receive(socket))
            self.assertEqual((alert["type"], alert["video"]["title"]), ("viral_alert", title))

    async def test_compression_is_offered_and_declined(self):
        async with connect(WEBSOCKET_ADDRESS, compression="deflate") as socket:
            self.assertIn("permessage-deflate", socket.request.headers["Sec-WebSocket-Extensions"])
            self.assertEqual(socket.protocol.extensions, [])
            await subscribe(socket, next(regions))

    async def test_a_subprotocol_that_connect_does_not_return_is_not_chosen(self):
        async with connect(WEBSOCKET_ADDRESS, subprotocols=["chat"]) as socket:
            self.assertIsNone(socket.subprotocol)

    async def test_fragments_are_joined(self):
        async with connect(WEBSOCKET_ADDRESS) as socket:
            await socket.send(['{"type":', '"pi', 'ng"}'])
            self.assertEqual(json.loads(await receive(socket)), {"type": "pong"})

    async def test_a_message_over_32_kb_is_taken_in_frames_and_refused_in_one(self):
        padding = " " * (FRAME_MAX - len('{"type":"ping"}'))
        async with connect(WEBSOCKET_ADDRESS) as socket:
            await socket.send(['{"type":"ping"}' + padding, " " * FRAME_MAX])
            self.assertEqual(json.loads(await receive(socket)), {"type": "pong"})
            await socket.send('{"type":"ping"}' + padding + " ")
            self.assertEqual((await closed(socket))[0], 1009)

    async def test_a_ping_is_answered(self):
        async with connect(WEBSOCKET_ADDRESS) as socket:
            await asyncio.wait_for(await socket.ping(b"data"), WAIT_MAX)

    async def test_a_close_is_answered_with_the_same_status(self):
        for code, reason in [(1000, ""), (1001, "moving on"), (4321, "zażółć")]:
            socket = await connect(WEBSOCKET_ADDRESS)
            await asyncio.wait_for(socket.close(code, reason), WAIT_MAX)
            self.assertEqual((socket.close_code, socket.state.name), (code, "CLOSED"))
            self.assertIsNotNone(socket.protocol.close_rcvd, "the gateway answers with a close frame")

    async def test_a_binary_message_is_refused(self):
        async with connect(WEBSOCKET_ADDRESS) as socket:
            await socket.send(b"{}")
            self.assertEqual((await closed(socket))[0], 1003)

    async def test_a_refused_handshake_tells_its_status(self):
        for address, status in [(f"{WEBSOCKET_ADDRESS}?region=P", 400), (WEBSOCKET_ADDRESS + "x", 403)]:
            with self.assertRaises(websockets.InvalidStatus) as refused:
                await connect(address)
            self.assertEqual(refused.exception.response.status_code, status)

    async def test_the_same_port_speaks_tls(self):
        # The local authority is not known outside of functions.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with connect(WEBSOCKET_ADDRESS.replace("ws://", "wss://"), ssl=context) as socket:
            await subscribe(socket, next(regions))


class Management(unittest.IsolatedAsyncioTestCase):
    def assertFails(self, status, code, call, **arguments):
        with self.assertRaises(ClientError) as failed:
            call(**arguments)
        response = failed.exception.response
        self.assertEqual((response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]), (status, code))
        return failed.exception

    async def connected(self, region):
        socket = await connect(WEBSOCKET_ADDRESS)
        self.addAsyncCleanup(socket.close)
        await subscribe(socket, region)
        return socket, await asyncio.to_thread(connection_of, region)

    async def test_it_posts_to_a_connection_asks_about_it_and_closes_it(self):
        client = management()
        socket, connection = await self.connected(next(regions))
        await asyncio.to_thread(client.post_to_connection, ConnectionId=connection, Data="zażółć 🎉".encode())
        self.assertEqual(await receive(socket), "zażółć 🎉")
        description = await asyncio.to_thread(client.get_connection, ConnectionId=connection)
        self.assertEqual(description["Identity"]["SourceIp"], "127.0.0.1")
        self.assertIn("websockets/", description["Identity"]["UserAgent"])
        self.assertLessEqual(description["ConnectedAt"], description["LastActiveAt"])
        self.assertLess(abs(description["ConnectedAt"].timestamp() - time.time()), WAIT_MAX)
        await asyncio.to_thread(client.delete_connection, ConnectionId=connection)
        self.assertEqual(await closed(socket), (1000, "Connection Closed Normally"))
        for call in [client.get_connection, client.delete_connection]:
            gone = self.assertFails(410, "GoneException", call, ConnectionId=connection)
            self.assertIsInstance(gone, client.exceptions.GoneException)

    async def test_data_of_128_kb_arrives_and_one_byte_more_is_refused(self):
        client = management()
        socket, connection = await self.connected(next(regions))
        data = b"x" * MESSAGE_MAX
        await asyncio.to_thread(client.post_to_connection, ConnectionId=connection, Data=data)
        self.assertEqual(await receive(socket), data.decode())
        for excess in [1, 8 * MESSAGE_MAX]:
            error = self.assertFails(
                413,
                "PayloadTooLargeException",
                client.post_to_connection,
                ConnectionId=connection,
                Data=data + b"x" * excess,
            )
            self.assertIsInstance(error, client.exceptions.PayloadTooLargeException)

    def test_errors_have_their_names(self):
        client = management()
        gone = self.assertFails(410, "GoneException", client.post_to_connection, ConnectionId=UNKNOWN_ID, Data=b"x")
        self.assertIsInstance(gone, client.exceptions.GoneException)
        malformed = {"ConnectionId": "malformed", "Data": b"x"}
        error = self.assertFails(400, "BadRequestException", client.post_to_connection, **malformed)
        self.assertEqual(error.response["Error"]["Message"], "Invalid connectionId: malformed")
        elsewhere = management(MANAGEMENT_ADDRESS + "x")
        call = elsewhere.post_to_connection
        forbidden = self.assertFails(403, "ForbiddenException", call, ConnectionId=UNKNOWN_ID, Data=b"x")
        self.assertIsInstance(forbidden, elsewhere.exceptions.ForbiddenException)

    def test_the_same_port_speaks_tls(self):
        # The local authority is not known outside of functions, and the client warns of what is not verified.
        warnings.simplefilter("ignore")
        client = management(MANAGEMENT_ADDRESS.replace("http://", "https://"), verify=False)
        self.assertFails(410, "GoneException", client.get_connection, ConnectionId=UNKNOWN_ID)


class OtherServices(unittest.TestCase):
    def test_dynamodb_has_the_tables_of_the_template(self):
        table = boto3.client("dynamodb").describe_table(TableName="SubscriptionsTable")["Table"]
        self.assertEqual(table["TableStatus"], "ACTIVE")
        self.assertEqual([index["IndexName"] for index in table["GlobalSecondaryIndexes"]], ["by_connection"])

    def test_lambda_invokes_a_function_of_the_template(self):
        video = {"id": "v1", "title": "t", "thumbnail": "", "score": 97}
        payload = json.dumps({"region": next(regions), "video": video})
        answer = boto3.client("lambda").invoke(FunctionName="PublishFunction", Payload=payload)
        self.assertEqual((answer["StatusCode"], answer.get("FunctionError")), (200, None))
        self.assertTrue(json.load(answer["Payload"])["published"])

    def test_an_event_reaches_a_client_and_an_entry_that_is_none_does_not(self):
        region = next(regions)
        video = {"id": "v1", "title": "t", "thumbnail": "", "score": 97}
        entry = {
            "Source": SCORER_SOURCE,
            "DetailType": "Video Went Viral",
            "Detail": json.dumps({"region": region, "id": "rise-1", "video": video}),
        }

        async def run():
            async with connect(WEBSOCKET_ADDRESS) as socket:
                await subscribe(socket, region)
                entries = [entry, {**entry, "Detail": "no JSON"}]
                answer = await asyncio.to_thread(boto3.client("events").put_events, Entries=entries)
                self.assertEqual(answer["FailedEntryCount"], 1)
                self.assertTrue(answer["Entries"][0]["EventId"])
                self.assertEqual(answer["Entries"][1]["ErrorCode"], "MalformedDetail")
                self.assertEqual(json.loads(await receive(socket))["video"], video)

        asyncio.run(run())

    def test_the_publisher_of_another_stack_publishes_by_event_and_by_invocation_and_each_once(self):
        os.environ |= {"SCORER_SOURCE": SCORER_SOURCE, "PUBLISH_FUNCTION": "PublishFunction"}
        sys.path.insert(0, str(PUBLISHER))
        import publish as publisher

        async def run():
            async with connect(WEBSOCKET_ADDRESS) as socket:
                for region in ("PL", "DE"):
                    await subscribe(socket, region)
                first, repeated = [await asyncio.to_thread(publisher.handler, {"id": "run-1"}, None) for _ in range(2)]
                self.assertEqual((first["region"], first["duplicate"], repeated["duplicate"]), ("DE", False, True))
                seen = [json.loads(await receive(socket))["video"]["id"] for _ in range(2)]
                self.assertEqual(sorted(seen), ["top-DE", "top-PL"])
                # Frames keep their order, and an event that is repeated is committed before the next one.
                last = await asyncio.to_thread(publisher.handler, {"id": "run-2"}, None)
                self.assertFalse(last["duplicate"])
                alerts = [json.loads(await receive(socket)) for _ in range(2)]
                self.assertEqual(sorted((alert["region"], alert["seq"]) for alert in alerts), [("DE", 2), ("PL", 2)])

        asyncio.run(run())
