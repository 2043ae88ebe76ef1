"""What the conformance kit does not ask for: slow applications, tokens that fail, and what may not be passed."""

import ast
import asyncio
import contextlib
import gc
import io
import logging
import os
import random
import subprocess
import sys
import textwrap
import threading
import tokenize
import unittest
import weakref
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "kit")]

import gateway as kit  # noqa: E402
from gateway import Changes, Gateway, error  # noqa: E402
from viral_alerts import (  # noqa: E402
    Alert, Gap, Removed, Subscribed, ViralAlerts, ViralAlertsError, alerts, client, history, log,
)  # fmt: skip
from viral_alerts.history import read_page  # noqa: E402

# Bound of every wait, in seconds.
WAIT_MAX = 20
# What the client stays under, in lines of code.
LINES_MAX = 600
# Seeds that are tried side by side.
WORLDS = 6

# Attempts that fail are meant to, and need not be printed.
logging.getLogger("viral_alerts").addHandler(logging.NullHandler())


async def event_of(started):
    return await asyncio.wait_for(anext(started), WAIT_MAX)


async def until(condition):
    async with asyncio.timeout(WAIT_MAX):
        while not condition():
            await asyncio.sleep(0.01)


async def publish(gateway, region, count=1, push=True):
    for _ in range(count):
        alert = gateway.logs.publish(region, {}, {})
        if push:
            await gateway.push(alert)


def removal(region, epoch, seq):
    return {"type": "alert_removed", "region": region, "epoch": epoch, "seq": seq}


def lines_of_code(text):
    """The numbers of lines with more than a comment or a docstring."""
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for token in tokens if token.type not in layout for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


class Size(unittest.TestCase):
    def test_the_client_stays_small(self):
        self.assertEqual(lines_of_code('"""D\n."""\n\n# C\ndef f():\n    """D."""\n    return """\n"""\n'), {5, 7, 8})
        texts = [path.read_text() for path in sorted((HERE / "viral_alerts").glob("*.py"))]
        self.assertIn(sum(len(lines_of_code(text)) for text in texts), range(400, LINES_MAX))


class Client(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.gateway = await self.enterAsyncContext(Gateway(Changes()))
        self.url, self.http_url = f"ws://{self.gateway.address}/prod", f"http://{self.gateway.address}"

    async def start(self, **options):
        """A client that is subscribed to PL."""
        started = await self.enterAsyncContext(ViralAlerts(self.url, ["PL"], **options))
        self.assertEqual(await event_of(started), Subscribed("PL"))
        return started

    async def test_a_slow_application_gets_everything_and_little_waits_for_it(self):
        with mock.patch.object(client, "QUEUE_MAX", 100), mock.patch.object(log, "EARLY_MAX", 50):
            started = await self.start(http_url=self.http_url)
            await publish(self.gateway, "PL", 300)
            await until(lambda: len(started._events) == 100)
            told = []
            while len(told) < 300:
                told.append((await event_of(started)).seq)
                self.assertLessEqual(len(started._events), 100)
            self.assertEqual(told, list(range(1, 301)))

    async def test_events_that_nobody_reads_have_a_bound(self):
        with mock.patch.object(client, "QUEUE_MAX", 10), mock.patch.object(client, "HEAL", 0.01):
            started = await self.start(http_url=self.http_url)
            await publish(self.gateway, "PL", 3)
            await until(lambda: len(started._events) == 3)
            with self.assertLogs("viral_alerts", "WARNING") as logged:
                for _ in range(50):
                    started._log.admit(removal("PL", self.gateway.logs.epoch, 1))
                self.assertIn("left out, because 20 events wait", logged.output[-1])
            self.assertEqual(len(started._events), 20)
            for later in range(1, 50):
                started._log.admit(removal("PL", self.gateway.logs.epoch + later, 1))
            self.assertEqual(len(started._events), 20)
            events = [await event_of(started) for _ in range(20)]
            self.assertEqual({type(event) for event in events[:3]}, {Alert})
            self.assertEqual({type(event) for event in events[3:]}, {Removed})

    async def test_a_new_log_is_told_once_there_is_room(self):
        with mock.patch.object(client, "QUEUE_MAX", 3), mock.patch.object(client, "HEAL", 0.01):
            started = await self.start(http_url=self.http_url)
            await publish(self.gateway, "PL", 3)
            await until(lambda: len(started._events) == 3)
            self.gateway.logs.reset("PL")
            await publish(self.gateway, "PL", 2)
            entry = started._log._entries["PL"]
            await until(lambda: entry.head == (self.gateway.logs.epoch, 2))
            self.assertEqual(len(started._events), 3)
            self.assertEqual([(await event_of(started)).seq for _ in range(3)], [1, 2, 3])
            self.assertEqual(await event_of(started), Gap("PL", 4, None))
            self.assertEqual([(await event_of(started)).seq for _ in range(2)], [1, 2])

    async def test_alerts_that_are_early_have_a_bound(self):
        with mock.patch.object(log, "EARLY_MAX", 10):
            started = await self.start(http_url=self.http_url)
            await publish(self.gateway, "PL", push=False)
            await publish(self.gateway, "PL", 40)
            entry = started._log._entries["PL"]
            await until(lambda: entry.head[1] == 41)
            self.assertLessEqual(len(entry.early), 10)
            self.assertEqual([(await event_of(started)).seq for _ in range(41)], list(range(1, 42)))

    async def test_positions_are_those_of_the_last_event(self):
        started = await self.start()
        await publish(self.gateway, "PL", 3)
        for seq in (1, 2):
            self.assertEqual((await event_of(started)).seq, seq)
            self.assertEqual(started.positions["PL"]["seq"], seq)
        await started.close()
        again = await self.enterAsyncContext(ViralAlerts(self.url, ["PL"], positions=started.positions))
        self.assertEqual(await event_of(again), Subscribed("PL"))
        self.assertEqual((await event_of(again)).seq, 3)

    async def test_the_loop_ends_with_the_client_after_what_waits(self):
        started = await self.start()
        await publish(self.gateway, "PL", 2)
        await until(lambda: len(started._events) == 2)
        await started.close()
        self.assertEqual([event.seq async for event in started], [1, 2])

    async def test_a_token_that_fails_is_told_and_asked_for_again(self):
        tokens = iter([RuntimeError("no network"), asyncio.CancelledError(), "ż", "good"])

        async def token():
            given = next(tokens)
            if isinstance(given, BaseException):
                raise given
            return given

        self.gateway.accepted_tokens = ["good"]
        started = await self.enterAsyncContext(ViralAlerts(self.url, ["PL"], token=token, reconnect_within=0.01))
        failures = [await event_of(started) for _ in range(3)]
        self.assertEqual([failure.code for failure in failures], ["connect"] * 3)
        self.assertIn("no network", failures[0].message)
        self.assertNotIn("ż", failures[2].message)
        self.assertEqual(await event_of(started), Subscribed("PL"))

    async def test_a_token_that_http_refuses_ends_the_loop(self):
        started = await self.start(http_url=self.http_url, token="old")
        self.gateway.accepted_tokens = ["new"]
        with self.assertRaises(ViralAlertsError) as raised:
            self.gateway.cut()
            await event_of(started)
        self.assertEqual(raised.exception.code, "unauthorized")

    async def test_an_answer_that_is_not_as_promised_ends_the_connection_only(self):
        self.gateway.answers.append({"type": "subscribed", "regions": ["PL"], "positions": {"PL": None}})
        started = await self.start(reconnect_within=0.01)
        self.assertEqual(len(self.gateway.opened), 2)
        await publish(self.gateway, "PL")
        self.assertEqual((await event_of(started)).seq, 1)

    def test_what_the_service_advises_has_bounds(self):
        huge = 10**400
        for given, least, expected in [
            (1_500, 0, 1.5),
            (huge, 0, client.ADVICE_MAX),
            (float("inf"), 0, client.ADVICE_MAX),
            (-huge, 0, 0),
            (float("-inf"), 1, 1),
            (0, 1, 1),
            (None, 0, 7),
        ]:
            self.assertEqual(client.advised({"name": given}, "name", 7, least), expected, given)
        self.assertEqual(client.advised({"name": float("nan")}, "name", 7, 1), 1)
        with self.assertRaises(TypeError):
            client.advised({"name": "1"}, "name", 7, 0)

    def test_a_cursor_may_have_any_epoch(self):
        number = 36**2_000 + 35
        text = history.cursor({"PL": {"epoch": 35, "seq": number}})
        self.assertEqual(text, f"PL.z.1{'0' * 1_999}z")
        self.assertEqual(history.cursor({"PL": {"epoch": 36**3 + 35, "seq": 0}}), "PL.100z.0")

    async def test_pages_without_end_leave_time_for_other_requests(self):
        read = []

        async def endless(_url, _token, _regions, _after):
            read.append(await asyncio.sleep(0))
            at = {"epoch": 1, "seq": len(read)}
            return {"positions": {"PL": at}, "alerts": [], "more": True}

        started = await self.start(http_url=self.http_url)
        with mock.patch.object(client, "read_page", endless):
            await asyncio.wait_for(started._catch_up(self.http_url, ["PL"]), WAIT_MAX)
        self.assertLessEqual(len(read), client.PAGES_MAX)

    async def test_a_redirect_is_not_followed(self):
        asked = []

        async def redirect(reader, writer):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(f"HTTP/1.1 307 Moved\r\nLocation: {self.url}\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()

        server = await self.enterAsyncContext(await asyncio.start_server(redirect, "127.0.0.1", 0))
        address = "{}:{}".format(*server.sockets[0].getsockname())
        options = {"token": "secret", "reconnect_within": 0.01}
        await self.enterAsyncContext(ViralAlerts(f"ws://{address}", ["PL"], **options))
        await until(lambda: len(asked) > 1)
        self.assertIn(b"bearer.secret", asked[0])
        with self.assertRaises(OSError) as raised:
            await read_page(f"http://{address}", "secret", ["PL"], "_")
        self.assertEqual((raised.exception.status, self.gateway.attempts, self.gateway.requests), (307, [], 0))

    async def test_the_position_after_a_gap_is_behind_it(self):
        await publish(self.gateway, "PL", 5)
        self.gateway.logs.by_region["PL"].forgotten = 5
        epoch = self.gateway.logs.epoch
        started = await self.start(positions={"PL": {"epoch": epoch, "seq": 2}})
        self.assertEqual(await event_of(started), Gap("PL", 3, 5))
        self.assertEqual(started.positions, {"PL": {"epoch": epoch, "seq": 5}})

    async def test_a_loop_over_alerts_has_only_those(self):
        self.gateway.forbidden["XX"] = "forbidden"
        with self.assertLogs("viral_alerts", "WARNING") as logged:
            async with contextlib.aclosing(alerts(self.url, ["PL", "XX"])) as loop:
                first = asyncio.create_task(anext(loop))
                await until(lambda: logged.output)
                await publish(self.gateway, "PL")
                self.assertIsInstance(await first, Alert)
        self.assertIn("forbidden", str(logged.output))
        await until(lambda: not self.gateway.connections)

    async def test_what_a_region_cannot_be_is_refused_at_once(self):
        for region in ("", "P", "1A", "PL!", "A" * 17):
            with self.assertRaisesRegex(ValueError, "invalid region"):
                ViralAlerts(self.url, [region])

    async def test_what_cannot_be_an_address_or_a_time_is_refused_at_once(self):
        for url in ("localhost:8765", "", "ftp://localhost", "ws://", "ws://localhost/ prod", "ws://localhost/#prod"):
            with self.assertRaisesRegex(ValueError, "invalid url"):
                ViralAlerts(url)
        with self.assertRaisesRegex(ValueError, "invalid http_url"):
            ViralAlerts(self.url, http_url="file:///etc")
        for name, values in {"keepalive": (0, -1, float("nan")), "reconnect_within": (-1, float("inf"))}.items():
            for value in values:
                with self.assertRaisesRegex(ValueError, f"invalid {name}"):
                    ViralAlerts(self.url, **{name: value})

    async def test_an_attempt_that_fails_is_a_warning(self):
        self.gateway.refusals = [403]
        with self.assertLogs("viral_alerts", "WARNING") as logged:
            await self.start(reconnect_within=0.01)
        self.assertIn("403", str(logged.output))

    async def test_a_client_that_was_closed_stays_closed(self):
        started = ViralAlerts(self.url, ["PL"])
        await started.close()
        with self.assertRaises(StopAsyncIteration):
            await event_of(started)
        self.assertEqual(self.gateway.attempts, [])

    async def test_a_closed_client_that_nobody_reads_is_freed(self):
        with mock.patch.object(client, "QUEUE_MAX", 3), mock.patch.object(client, "HEAL", 0.01):
            started = ViralAlerts(self.url, ["PL"], http_url=self.http_url)
            async with started:
                await event_of(started)
                await publish(self.gateway, "PL", 9)
                await until(lambda: started._behind)
            known = weakref.ref(started)
            del started
            await until(lambda: gc.collect() >= 0 and not known())

    async def test_a_region_that_is_left_before_its_answer_begins_anew(self):
        started = await self.start()
        left = asyncio.Event()
        self.gateway.hooks["answering"] = left.wait
        started.watch("DE")
        (connection,) = self.gateway.connections
        await until(lambda: "DE" in connection.regions)
        started.unwatch("DE")
        left.set()
        await until(lambda: "DE" not in connection.regions)
        await publish(self.gateway, "DE")
        started.watch("DE")
        self.assertEqual(await event_of(started), Subscribed("DE"))
        await publish(self.gateway, "DE")
        self.assertEqual((await event_of(started)).seq, 2)

    async def test_regions_that_are_asked_for_alone_fit_in_the_rate_of_messages(self):
        self.gateway.forbidden["R-9"] = "forbidden"
        started = await self.enterAsyncContext(ViralAlerts(self.url, [f"R-{number}" for number in range(20)]))
        told = [await event_of(started) for _ in range(20)]
        self.assertEqual([event.region for event in told if event != Subscribed(event.region)], ["R-9"])
        self.assertEqual(self.gateway.violations, [])

    async def test_subscriptions_beside_all_leave_room_for_others(self):
        rate = {"MESSAGES_PER_SECOND": 1_000}
        bounds = {"SURPLUS_MAX": 2, "HEAL": 0.01} | rate
        with mock.patch.multiple(kit, SUBSCRIPTIONS_MAX=5, **rate), mock.patch.multiple(client, **bounds):
            started = await self.enterAsyncContext(ViralAlerts(self.url, ["ALL"], http_url=self.http_url))
            self.assertEqual(await event_of(started), Subscribed("ALL"))
            for number in range(10):
                await publish(self.gateway, f"R-{number}", push=False)
                await publish(self.gateway, f"R-{number}")
            told = [await event_of(started) for _ in range(20)]
        self.assertEqual({type(event) for event in told}, {Alert})

    async def test_pages_that_cannot_be_read_for_long_lose_nothing(self):
        await publish(self.gateway, "PL", 3)
        self.gateway.alerts_max = 0
        self.gateway.history = [503, "garbage", 429] * 4
        with mock.patch.multiple(client, HTTP_RETRY=0.01, BACKOFF_MAX=0.02):
            positions = {"PL": {"epoch": self.gateway.logs.epoch, "seq": 0}}
            started = await self.start(http_url=self.http_url, positions=positions)
            self.assertEqual([(await event_of(started)).seq for _ in range(3)], [1, 2, 3])
        self.assertEqual(len(self.gateway.opened), 1)

    async def test_pages_that_may_not_be_read_are_given_up(self):
        await publish(self.gateway, "PL", 3)
        self.gateway.alerts_max = 0
        self.gateway.history = [403] * log.TRIES_MAX
        with mock.patch.multiple(client, HTTP_RETRY=0.01, BACKOFF_MAX=0.02):
            positions = {"PL": {"epoch": self.gateway.logs.epoch, "seq": 0}}
            started = await self.start(http_url=self.http_url, positions=positions)
            self.assertEqual(await event_of(started), Gap("PL", 1, 3))

    async def test_a_token_that_fails_for_a_page_leaves_the_connection(self):
        await publish(self.gateway, "PL", 3)
        self.gateway.alerts_max = 0
        tokens = iter(["first", None, "later"])
        options = {"http_url": self.http_url, "token": lambda: next(tokens)}
        with mock.patch.object(client, "HTTP_RETRY", 0.01):
            positions = {"PL": {"epoch": self.gateway.logs.epoch, "seq": 0}}
            started = await self.start(positions=positions, **options)
            self.assertEqual((await event_of(started)).code, "connect")
            self.assertEqual((await event_of(started)).seq, 1)
        self.assertEqual(len(self.gateway.opened), 1)

    async def test_a_page_has_bounds(self):
        async def deep(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000)
            writer.close()

        async def drip(writer, first, then):
            with contextlib.suppress(ConnectionError):
                writer.write(first)
                while True:
                    writer.write(then)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            writer.close()
            left.append(first)

        async def slow(_, writer):
            await drip(writer, b"HTTP/1.1 200 OK\r\n\r\n", b" ")

        async def slow_headers(_, writer):
            await drip(writer, b"HTTP/1.1 200 OK\r\nX: ", b"x")

        left = []
        for answer in (deep, slow, slow_headers):
            server = await self.enterAsyncContext(await asyncio.start_server(answer, "127.0.0.1", 0))
            address = "http://{}:{}".format(*server.sockets[0].getsockname())
            with mock.patch.object(history, "ANSWER_MAX", 0.5), self.assertRaises(OSError) as raised:
                await asyncio.wait_for(read_page(address, "", ["PL"], "_"), WAIT_MAX)
            self.assertFalse(hasattr(raised.exception, "status"))
            # Its server would go on, and yet the thread ends.
            await until(lambda: "viral_alerts" not in [thread.name for thread in threading.enumerate()])
        await until(lambda: len(left) == 2)

    async def test_a_program_does_not_wait_for_a_page_at_its_end(self):
        program = """
            import asyncio, socket
            from viral_alerts.history import read_page

            async def main():
                with socket.create_server(("127.0.0.1", 0)) as server:
                    address = f"http://127.0.0.1:{server.getsockname()[1]}"
                    reading = asyncio.create_task(read_page(address, "", ["PL"], "_"))
                    silent = await asyncio.to_thread(server.accept)
                    reading.cancel()
                    return silent

            silent = asyncio.run(main())
        """
        # A page may take 15 s.
        command = [sys.executable, "-Bc", textwrap.dedent(program)]
        await asyncio.to_thread(subprocess.run, command, cwd=HERE, timeout=10, check=True)

    async def test_a_refused_region_is_asked_for_again_after_it_was_left(self):
        self.gateway.forbidden["XX"] = "forbidden"
        started = await self.start()
        started.watch("xx")
        self.assertEqual((await event_of(started)).region, "XX")
        self.gateway.forbidden.clear()
        started.unwatch("XX")
        started.watch("XX")
        self.assertEqual(await event_of(started), Subscribed("XX"))


class World:
    """A service in which everything goes wrong by the seed, and a client of it."""

    def __init__(self, seed, gateway):
        self.random, self.gateway = random.Random(seed), gateway
        self.told = {"PL": [], "DE": []}
        self.removed = {"PL": set(), "DE": set()}
        self.wrong = []

    async def deliver(self, entry):
        """Pushes late, and not at all or several times."""
        for _ in range(self.random.choice([0, 1, 1, 1, 2])):
            await asyncio.sleep(self.random.random() ** 4 / 10)
            await self.gateway.push(entry)

    async def read(self, started):
        async for event in started:
            if isinstance(event, Alert):
                self.told[event.region].append(event.seq)
            elif isinstance(event, Gap):
                self.wrong.append(event)

    async def publish(self, tasks):
        gateway, chance = self.gateway, self.random.random()
        region = self.random.choice(["PL", "DE"])
        if chance < 0.7:
            tasks.create_task(self.deliver(gateway.logs.publish(region, {}, {})))
        elif chance < 0.75 and region in gateway.logs.by_region:
            seq = self.random.randint(1, len(gateway.logs.by_region[region].entries))
            self.removed[region].add(seq)
            tasks.create_task(self.deliver(gateway.logs.remove(region, seq)))
        elif chance < 0.8:
            gateway.cut()
        elif chance < 0.82:
            tasks.create_task(gateway.close(1001))
        elif chance < 0.84:
            gateway.refusals.append(503)
        elif chance < 0.87:
            again = error("unavailable", None, retryable=True)
            gateway.answers.append(self.random.choice([{"message": "Internal server error"}, again]))
        elif chance < 0.9:
            gateway.history = [self.random.choice([429, "truncated", "garbage"])]
        elif chance < 0.93:
            gateway.alerts_max = self.random.choice([0, 3, 100])
        elif chance < 0.95:
            for connection in gateway.connections:
                connection.regions.clear()
        elif chance < 0.97:
            for connection in gateway.connections:
                connection.marked_closed = True
                connection.regions.clear()
        await asyncio.sleep(self.random.random() / 50)

    def is_whole(self, region):
        """Whether everything was told, or taken back."""
        head = self.gateway.logs.head(region)["seq"]
        return set(range(1, head + 1)) <= {*self.told[region], *self.removed[region]}


class Worlds(unittest.IsolatedAsyncioTestCase):
    async def live(self, seed):
        async with Gateway(Changes()) as gateway, asyncio.TaskGroup() as tasks:
            world = World(seed, gateway)
            gateway.advice = {"reconnect_within_ms": 20, "rotate_after_ms": 700}
            regions = world.random.choice([["ALL"], ["PL", "DE"]])
            async with ViralAlerts(
                f"ws://{gateway.address}/prod", regions, http_url=f"http://{gateway.address}", keepalive=0.2
            ) as started:
                reading = tasks.create_task(world.read(started))
                await until(lambda: gateway.connections and gateway.connections[-1].regions)
                await until(lambda: not started._pending)
                for _ in range(150):
                    await world.publish(tasks)
                gateway.answers.clear()
                gateway.history.clear()
                gateway.alerts_max = 100
                await until(lambda: all(map(world.is_whole, world.told)))
                await started.close()
                await reading
        for region, told in world.told.items():
            self.assertEqual(told, sorted(set(told)), f"{region}, seed {seed}")
        self.assertEqual((world.wrong, gateway.violations), ([], []), f"seed {seed}")

    async def test_whatever_goes_wrong_each_alert_comes_once_and_in_order(self):
        first = int(os.environ.get("SEED", 0))
        rate = {"MESSAGES_PER_SECOND": 1_000}
        times = {"HEAL": 0.02, "HTTP_RETRY": 0.05, "BACKOFF_MAX": 0.1, "INTERVAL_MIN": 0.1}
        with mock.patch.multiple(client, **times, **rate), mock.patch.multiple(kit, **rate):
            await asyncio.gather(*(self.live(seed) for seed in range(first, first + WORLDS)))


if __name__ == "__main__":
    unittest.main()
