"""infra/forget.py against the local mode: one user is forgotten and another is not, whatever happens meanwhile.

forget.test.mjs starts the local mode. Each test has users of its own.
"""

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
import unittest
import urllib.request
from pathlib import Path
from unittest import mock

import boto3
import jwt
import websockets
from botocore.stub import Stubber
from websockets.asyncio.client import connect

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "infra"))
import forget  # noqa: E402

WEBSOCKET_ADDRESS = os.environ["WEBSOCKET_ADDRESS"]
HTTP_ADDRESS = os.environ["HTTP_ADDRESS"]
TOKEN_SECRET = os.environ["TOKEN_SECRET"]

OPERATIONS = ROOT / "docs/operations.md"
# Bound of every wait, in seconds.
WAIT_MAX = 20
NOTHING = """
closed connections: 0, deleted items of theirs: 0
deleted rate limits of the user as a publisher: 0
"""
# An id of the right form that was never given out.
UNKNOWN_ID = "eHrdFcnvvHcCE-w="
# Attributes of a mark that names only its connection.
BARE = {"audience", "slot", "closed", "expires_at"}
READS = ("Query", "GetItem")
# It would complain of a slow machine in the midst of what the command prints.
logging.getLogger("asyncio").setLevel(logging.ERROR)

# Users whose `sub` is hard to pass on or to print.
HOSTILE = [
    "it's \"quoted\" `id` $(id) $HOME %s \\ ;#&|<>*?~",
    "two\nlines\r\t\x1b[31m\x07",
    "@user#55a9f4f8994b1bbf2058ea38c8efb6c4",
    "--help",
    " both ends ",
    "Zażółć gęślą jaźń 🎉 \u202egnp",
    "s" * 3_000,
]


def token(sub):
    claims = {"sub": sub, "exp": int(time.time()) + 600, "regions": ["*"], "publish": ["*"]}
    return jwt.encode(claims, TOKEN_SECRET, algorithm="HS256")


# A session reads what it knows of AWS once, which takes longer than a test.
SESSION = boto3.Session()
DYNAMODB = SESSION.client("dynamodb")
TABLE = SESSION.resource("dynamodb").Table(os.environ["SUBSCRIPTIONS_TABLE"])


def run(sub, **environ):
    """Forgets a user of the local mode. Returns the exit code and what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = forget.main(["local"], os.environ | {"FORGET_USER": sub} | environ, SESSION)
    return code, printed.getvalue()


def items(table):
    pages = DYNAMODB.get_paginator("scan").paginate(TableName=os.environ[table], ConsistentRead=True)
    return [item for page in pages for item in page["Items"]]


def stored(sub, connections):
    """Returns what the tables have of a user and of connections, without marks that name only their connection."""
    keys = {forget.seats_of(sub), forget.rate_limit_of(sub)}
    digest = forget.seats_of(sub).removeprefix("@user#")
    found = []
    for item in items("SUBSCRIPTIONS_TABLE") + items("ALERTS_TABLE"):
        text = json.dumps(item)
        is_bare = set(item) == BARE
        if digest in text or any(f'"{key}"' in text for key in keys):
            found.append(item)
        elif any(connection in text for connection in connections) and not is_bare:
            found.append(item)
    return found


def seats(sub):
    """Returns the connections that hold the seats of a user."""
    return {
        item["connection_id"]["S"]
        for item in items("SUBSCRIPTIONS_TABLE")
        if item["audience"]["S"] == forget.seats_of(sub)
    }


def publish(region):
    body = json.dumps({"region": region, "video": {"id": "v1", "title": "t", "thumbnail": "", "score": 97}}).encode()
    with urllib.request.urlopen(HTTP_ADDRESS, body, timeout=WAIT_MAX) as response:
        assert json.load(response)["published"]


@contextlib.contextmanager
def recorded(before=lambda calls: None):
    """Yields the operations that clients of the session call. `before` runs before each of them."""
    calls = []

    def note(model, **_):
        before(calls)
        calls.append((model.service_model.service_name, model.name))

    SESSION.events.register("before-call", note)
    try:
        yield calls
    finally:
        SESSION.events.unregister("before-call", note)


class Case(unittest.IsolatedAsyncioTestCase):
    maxDiff = None

    async def open(self, sub, region="FORGET"):
        """A connection of a user that watches a region and is in a room."""
        socket = await connect(WEBSOCKET_ADDRESS, subprotocols=["viral-alerts", "bearer." + token(sub)])
        self.addAsyncCleanup(socket.close)
        await self.ask(socket, {"type": "subscribe_region", "regions": [region, "ALL"]}, "subscribed")
        await self.ask(socket, {"type": "join", "room": f"of-{region}"}, "joined")
        return socket

    async def ask(self, socket, message, answer):
        await socket.send(json.dumps(message))
        return await self.frame(socket, answer)

    async def frame(self, socket, kind):
        async with asyncio.timeout(WAIT_MAX):
            while (frame := json.loads(await socket.recv()))["type"] != kind:
                pass
        return frame

    async def end_of(self, socket):
        with self.assertRaises(websockets.ConnectionClosed) as end:
            async with asyncio.timeout(WAIT_MAX):
                while True:
                    await socket.recv()
        return end.exception.rcvd.code

    async def publish_over(self, socket, region):
        video = {"id": "v1", "title": "t", "thumbnail": "", "score": 97}
        await self.ask(socket, {"type": "publish", "region": region, "video": video}, "published")


class Forgetting(Case):
    async def test_the_connections_of_one_user_close_and_nothing_is_left_while_another_user_lives_on(self):
        mine = [await self.open("ola", "FORGET-A") for _ in range(2)]
        others = [await self.open("jan", "FORGET-A") for _ in range(2)]
        await self.publish_over(mine[0], "FORGET-A")
        await self.publish_over(others[0], "FORGET-A")
        connections, kept = await asyncio.to_thread(lambda: (seats("ola"), seats("jan")))
        self.assertEqual((len(connections), len(kept)), (2, 2))
        before = await asyncio.to_thread(stored, "jan", kept)

        code, printed = await asyncio.to_thread(run, "ola")
        self.assertEqual(code, 0, printed)
        # Of each connection: everyone, two regions, a room, and two seats.
        self.assertIn("closed connections: 2, deleted items of theirs: 12\n", printed)
        self.assertIn("deleted rate limits of the user as a publisher: 1\n", printed)
        self.assertLess(len(printed.splitlines()), 24)
        self.assertLessEqual(max(map(len, printed.splitlines())), 120)
        self.assertEqual([await self.end_of(socket) for socket in mine], [1000, 1000])
        self.assertEqual(await asyncio.to_thread(stored, "ola", connections), [])

        self.assertEqual(await asyncio.to_thread(stored, "jan", kept), before)
        await asyncio.to_thread(publish, "FORGET-A")
        for socket in others:
            self.assertEqual((await self.frame(socket, "viral_alert"))["region"], "FORGET-A")

        code, printed = await asyncio.to_thread(run, "ola")
        self.assertEqual(code, 0, printed)
        self.assertIn(NOTHING, printed)

    async def test_a_user_who_does_not_exist_takes_nothing_from_anybody(self):
        await self.open("eva", "FORGET-B")
        kept = await asyncio.to_thread(seats, "eva")
        for sub in ("ev", "eva ", "EVA", "eva\0"):
            code, printed = await asyncio.to_thread(run, sub)
            self.assertEqual(code, 0, printed)
            self.assertIn(NOTHING, printed)
        self.assertEqual(await asyncio.to_thread(seats, "eva"), kept)

    async def test_any_sub_is_forgotten_and_printed_without_harm(self):
        for sub in HOSTILE:
            with self.subTest(sub[:40]):
                socket = await self.open(sub, "FORGET-C")
                await self.publish_over(socket, "FORGET-C")
                connections = await asyncio.to_thread(seats, sub)
                self.assertEqual(len(connections), 1)
                code, printed = await asyncio.to_thread(run, sub)
                self.assertEqual(code, 0, printed)
                self.assertEqual(await asyncio.to_thread(stored, sub, connections), [])
                self.assertTrue(printed.replace("\n", "").replace("…", "").isascii() and "\x1b" not in printed)
                self.assertLess(len(printed.splitlines()[0]), 120)

    async def test_the_command_reads_its_variables_as_any_program(self):
        socket = await self.open("zoë", "FORGET-D")
        command = [sys.executable, "-B", ROOT / "infra/forget.py", "local"]
        env = os.environ | {"FORGET_USER": "zoë"}
        done = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("closed connections: 1,", done.stdout)
        await self.end_of(socket)

    async def test_a_user_who_comes_back_at_once_is_told_of_and_forgotten_once_the_tokens_end(self):
        is_issuing = True

        async def come_back():
            while is_issuing:
                # It may be closed before it is subscribed.
                with contextlib.suppress(websockets.ConnectionClosed):
                    await self.end_of(await self.open("max", "FORGET-E"))

        first = await self.open("max", "FORGET-E")
        client = asyncio.create_task(come_back())
        while len(await asyncio.to_thread(seats, "max")) < 2:
            await asyncio.sleep(0)
        before = forget.User.round

        def one_more(user, *arguments, **options):
            """A round after which the client is there again."""
            before(user, *arguments, **options)
            end = time.monotonic() + WAIT_MAX
            while not seats("max"):
                self.assertLess(time.monotonic(), end)

        with mock.patch.object(forget.User, "round", one_more):
            code, printed = await asyncio.to_thread(run, "max")
        self.assertEqual(code, 1, printed)
        self.assertRegex(printed, r"\n[4-9] of the connections were opened meanwhile: the user has a token")
        self.assertIn("NOT everything is gone after 5 rounds", printed)
        self.assertIn("Stop issuing tokens to this user", printed)

        is_issuing = False
        code, printed = await asyncio.to_thread(run, "max")
        self.assertEqual(code, 0, printed)
        await client
        await self.end_of(first)

    async def test_ended_before_or_after_any_write_it_is_finished_by_the_next_run(self):
        for number in range(100):
            socket = await self.open("kim", "FORGET-F")
            await self.publish_over(socket, "FORGET-F")
            connections = await asyncio.to_thread(seats, "kim")

            def end(calls):
                if sum(name not in READS for _, name in calls) == number:
                    raise KeyboardInterrupt

            with recorded(end):
                code, printed = await asyncio.to_thread(run, "kim")
            if code == 0:
                # It had ended before so many calls.
                break
            self.assertEqual(code, 130, printed)
            self.assertIn("stopped. Run it again", printed)
            code, printed = await asyncio.to_thread(run, "kim")
            self.assertEqual(code, 0, printed)
            await self.end_of(socket)
            # The mark may say which regions a connection was in, and not whose it was.
            marks = [item for item in await asyncio.to_thread(stored, "kim", connections) if "closed" not in item]
            self.assertEqual(marks, [], number)
            self.assertEqual(await asyncio.to_thread(stored, "kim", set()), [], number)
        self.assertGreater(number, 5)

    def lose(self, sub, connection):
        """Writes what a connection leaves whose $disconnect never came."""
        key, address = forget.seats_of(sub), "@address#203.0.113.9"
        for audience in ("@everyone", "PL", "room#a"):
            TABLE.put_item(Item=self.subscription(audience, connection))
        for audience in (key, address):
            TABLE.put_item(Item={"audience": audience, "slot": "seat#0007", "connection_id": connection})
        noted = {"audiences": {"PL", "room#a"}, "seats": {f"0007{key}", f"0007{address}"}}
        times = {"expires_at": int(time.time()) + 7_200, "messages_until": 1}
        TABLE.put_item(Item=forget.state_key(connection) | noted | times)

    def subscription(self, audience, connection):
        return {"audience": audience, "slot": forget.slot_of(connection), "connection_id": connection}

    def test_what_disconnect_does_not_remove_is_deleted_also_after_an_end_at_any_write(self):
        for number in range(100):
            self.lose("lost", UNKNOWN_ID)

            def end(calls):
                if sum(name not in READS for _, name in calls) == number:
                    raise KeyboardInterrupt

            with mock.patch.object(forget, "DISCONNECT_SECS_MAX", 0):
                with recorded(end):
                    ended, printed = run("lost")
                if ended:
                    self.assertEqual(ended, 130, printed)
                    code, printed = run("lost")
                    self.assertEqual(code, 0, printed)
            self.assertEqual(stored("lost", {UNKNOWN_ID}), [], number)
            (mark,) = [item for item in items("SUBSCRIPTIONS_TABLE") if UNKNOWN_ID in json.dumps(item)]
            self.assertLessEqual(int(mark["expires_at"]["N"]), time.time() + forget.MARK_SECS)
            if not ended:
                self.assertIn("closed connections: 1, deleted items of theirs: 5\n", printed)
                break
        self.assertGreater(number, 7)

    def test_an_index_that_is_late_and_a_message_that_comes_meanwhile_leave_nothing(self):
        self.lose("late", UNKNOWN_ID)
        close = forget.User.close

        def close_late(user, connection):
            """Closes a connection after a message of it was admitted."""
            values = {":de": {"DE"}}
            user.update(connection, "ADD audiences :de", values)
            user.subscriptions.put_item(Item=self.subscription("DE", connection))
            close(user, connection)

        with (
            mock.patch.object(forget, "DISCONNECT_SECS_MAX", 0),
            mock.patch.object(forget.User, "indexed", return_value=set()),
            mock.patch.object(forget.User, "close", close_late),
        ):
            code, printed = run("late")
        self.assertEqual(code, 0, printed)
        self.assertEqual(stored("late", {UNKNOWN_ID}), [])

    def test_a_seat_of_its_address_that_disconnect_did_not_see_in_the_index_is_left_too(self):
        self.lose("early", UNKNOWN_ID)
        for audience in ("@everyone", "PL", "room#a"):
            TABLE.delete_item(Key={"audience": audience, "slot": forget.slot_of(UNKNOWN_ID)})
        mark = {"UpdateExpression": "SET closed = :now REMOVE messages_until", "ExpressionAttributeValues": {":now": 1}}
        TABLE.update_item(Key=forget.state_key(UNKNOWN_ID), **mark)
        with mock.patch.object(forget.User, "indexed", return_value=set()):
            code, printed = run("early")
        self.assertEqual(code, 0, printed)
        left = [item for item in items("SUBSCRIPTIONS_TABLE") if UNKNOWN_ID in json.dumps(item)]
        # Only the mark, with when it closed and when it goes.
        self.assertEqual([set(item) for item in left], [BARE], left)

    async def test_a_seat_that_somebody_else_has_taken_meanwhile_stays(self):
        user = forget.User(SESSION, forget.of_local_mode(os.environ), "seat")
        key = {"audience": forget.seats_of("seat"), "slot": "seat#0001"}
        user.subscriptions.put_item(Item=key | {"connection_id": "new"})
        user.leave(tuple(key.values()), "old")
        self.assertEqual(len(user.seats()), 1)
        user.leave(tuple(key.values()), "new")
        self.assertEqual(user.seats(), [])

    async def test_without_seats_it_says_that_it_cannot_know(self):
        for variables, cause in [
            ({"CONNECTIONS_PER_USER": "0"}, "ConnectionsPerUser is 0"),
            ({"CONNECTIONS_PER_USER": "0.0"}, "ConnectionsPerUser is 0"),
            ({"AUTHORIZATION": "off"}, "Authorization is off"),
        ]:
            code, printed = await asyncio.to_thread(run, "nobody", **variables)
            self.assertEqual(code, 1)
            self.assertIn(f"NOT known whether everything is gone: {cause}", printed)


    def test_it_says_what_of_the_event_api_it_cannot_close(self):
        said = "- connections to the Event API, which nobody can close: for 24 hours at most\n"
        self.assertIn(said, run("nobody", EVENTS_URL="wss://events.example/event/realtime")[1])
        self.assertNotIn(said, run("nobody", EVENTS_URL="")[1])


class Arguments(unittest.TestCase):
    def refusal(self, arguments, **environ):
        printed = io.StringIO()
        with contextlib.redirect_stderr(printed):
            self.assertEqual(forget.main(arguments, environ), 2)
        return printed.getvalue()

    def test_a_wrong_call_says_what_to_do_and_deletes_nothing(self):
        self.assertIn("expected the name of a stack", self.refusal([]))
        self.assertIn("no user: make forget USER=SUB", self.refusal(["local"]))
        self.assertIn("expected UTF-8", self.refusal(["local"], FORGET_USER="\udcff"))
        mixed = self.refusal(["viral-alerts"], **os.environ, FORGET_USER="ola")
        self.assertIn("unset SUBSCRIPTIONS_TABLE, or pass STACK=local", mixed)
        partial = self.refusal(["local"], FORGET_USER="ola", SUBSCRIPTIONS_TABLE="SubscriptionsTable")
        self.assertIn("ALERTS_TABLE, AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI, AUTHORIZATION", partial)

    def test_the_keys_are_those_of_the_service(self):
        forms = ROOT / "shared/forms"
        (seat,) = json.loads((forms / "seat.1.json").read_text()).values()
        self.assertEqual(seat["audience"]["S"], forget.seats_of("ola"))
        (limit,) = json.loads((forms / "publisher_rate_limit.1.json").read_text()).values()
        # That of a role, in the same form.
        self.assertEqual(limit["region"]["S"], f"@publisher#{forget.half_digest('iam:AROA1')}")
        self.assertEqual(forget.slot_of("eHrdFcnvvHcCE-w="), "c1df14eeeHrdFcnvvHcCE-w=")


class Stack(unittest.TestCase):
    def stack(self, outputs):
        session = boto3.Session(region_name="eu-central-1")
        cloudformation = session.client("cloudformation", aws_access_key_id="x", aws_secret_access_key="x")
        values = {"Authorization": "required", "ConnectionsPerUser": "50", "LogRetentionDays": "7", "Delivery": "both"}
        description = {
            "StackName": "next",
            "CreationTime": 0,
            "StackStatus": "CREATE_COMPLETE",
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
            "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
        }
        with Stubber(cloudformation) as stub, mock.patch.object(session, "client", return_value=cloudformation):
            stub.add_response("describe_stacks", {"Stacks": [description]}, {"StackName": "next"})
            for name in ("SubscriptionsTable", "AlertsTable"):
                detail = {
                    "LogicalResourceId": name,
                    "PhysicalResourceId": f"next-{name}-1",
                    "ResourceType": "AWS::DynamoDB::Table",
                    "LastUpdatedTimestamp": 0,
                    "ResourceStatus": "CREATE_COMPLETE",
                }
                asked = {"StackName": "next", "LogicalResourceId": name}
                stub.add_response("describe_stack_resource", {"StackResourceDetail": detail}, asked)
            return forget.of_stack(session, "next", {})

    def test_cloudformation_says_where_its_tables_and_connections_are(self):
        address = "abc123.execute-api.eu-central-1.amazonaws.com/prod"
        service = self.stack({"WebSocketUrl": f"wss://{address}"})
        place = "the stack next in eu-central-1"
        tables = "next-SubscriptionsTable-1", "next-AlertsTable-1"
        self.assertEqual(service, forget.Service(place, *tables, f"https://{address}", "required", "50", "7", True))
        with self.assertRaisesRegex(forget.Invalid, "no output WebSocketUrl"):
            self.stack({})


class Permissions(Case):
    async def test_the_documented_permissions_are_those_that_it_uses(self):
        await self.open("iam", "FORGET-G")
        with recorded() as calls, mock.patch.object(forget, "DISCONNECT_SECS_MAX", 0):
            code, printed = await asyncio.to_thread(run, "iam")
        self.assertEqual(code, 0, printed)
        used = {f"dynamodb:{name}" for service, name in calls if service == "dynamodb"}
        used |= {"cloudformation:DescribeStacks", "cloudformation:DescribeStackResource"}
        used |= {"execute-api:ManageConnections" for service, _ in calls if service == "apigatewaymanagementapi"}
        documented = re.search(r"\*\*Permissions to \[forget.*?\n\n\*\*", OPERATIONS.read_text(), re.DOTALL)
        self.assertEqual(set(re.findall(r"`([a-z-]+:[A-Z]\w+)`", documented[0])), used)


if __name__ == "__main__":
    unittest.main()
