"""The client in Python against the local mode, and whether the gateway of the conformance kit answers as that does.

python.test.mjs starts the local mode.
"""

import asyncio
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

from websockets.asyncio.client import connect

CLIENT = Path(__file__).parents[2] / "client"
sys.path[:0] = [str(CLIENT / "python"), str(CLIENT / "kit")]

from gateway import Changes, Gateway  # noqa: E402
from viral_alerts import Alert, Gap, Subscribed, ViralAlerts  # noqa: E402

WEBSOCKET_ADDRESS = os.environ["WEBSOCKET_ADDRESS"]
HTTP_ADDRESS = os.environ["HTTP_ADDRESS"].rstrip("/")

# Bound of every wait, in seconds.
WAIT_MAX = 20

# What differs from service to service, and from alert to alert.
OWN = ("id", "timestamp", "message", "reconnect_within_ms", "rotate_after_ms")


def publish(region, count=1):
    for _ in range(count):
        video = {"id": "v", "title": "Zażółć 🎉", "thumbnail": None, "score": 97}
        body = json.dumps({"region": region, "video": video}).encode()
        with urllib.request.urlopen(HTTP_ADDRESS, body, timeout=WAIT_MAX) as response:
            assert json.load(response)["published"]


async def event_of(client, region):
    """The next event of a region. Clients also get the alerts of regions that nobody watches."""
    async with asyncio.timeout(WAIT_MAX):
        async for event in client:
            if event.region == region:
                return event


class Client(unittest.IsolatedAsyncioTestCase):
    def client(self, region, **options):
        return ViralAlerts(WEBSOCKET_ADDRESS, [region], http_url=HTTP_ADDRESS, **options)

    async def test_it_gets_alerts_and_goes_on_after_a_restart_over_more_pages_than_one(self):
        async with self.client("OURS-A") as client:
            self.assertEqual(await event_of(client, "OURS-A"), Subscribed("OURS-A"))
            await asyncio.to_thread(publish, "OURS-A", 2)
            self.assertEqual([(await event_of(client, "OURS-A")).seq for _ in range(2)], [1, 2])
        await asyncio.to_thread(publish, "OURS-A", 130)
        async with self.client("OURS-A", positions=client.positions) as client:
            self.assertEqual(await event_of(client, "OURS-A"), Subscribed("OURS-A"))
            alerts = [await event_of(client, "OURS-A") for _ in range(130)]
        self.assertEqual([alert.seq for alert in alerts], list(range(3, 133)))
        self.assertTrue(all(isinstance(alert, Alert) and alert.video["title"] == "Zażółć 🎉" for alert in alerts))

    async def test_it_is_told_of_a_log_that_is_gone(self):
        await asyncio.to_thread(publish, "OURS-B", 2)
        async with self.client("OURS-B", positions={"OURS-B": {"epoch": 1, "seq": 9}}) as client:
            events = [await event_of(client, "OURS-B") for _ in range(4)]
        # The log may be read before the connection answers.
        events.remove(Subscribed("OURS-B"))
        self.assertEqual(events[0], Gap("OURS-B", 10, None))
        self.assertEqual([alert.seq for alert in events[1:]], [1, 2])


class Readme(unittest.TestCase):
    def test_its_programs_print_alerts(self):
        text = (CLIENT / "python/README.md").read_text()
        programs = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        self.assertEqual(len(programs), 2)
        for program in programs:
            program = program.replace("ws://127.0.0.1:8765/prod", WEBSOCKET_ADDRESS)
            program = program.replace("http://127.0.0.1:8766", HTTP_ADDRESS)
            env = os.environ | {"PYTHONPATH": str(CLIENT / "python")}
            with tempfile.TemporaryDirectory() as directory, self.subTest(program):
                running = subprocess.Popen(
                    [sys.executable, "-uBc", program], cwd=directory, env=env, stdout=subprocess.PIPE, text=True
                )
                try:
                    # It gets what is published once it is subscribed.
                    while not select.select([running.stdout], [], [], 0.2)[0]:
                        publish("PL")
                    # It also gets the alerts of regions that nobody watches.
                    while not (line := running.stdout.readline()).startswith("PL "):
                        self.assertTrue(line, "the program ended")
                    self.assertRegex(line, r"^PL .*Zażółć 🎉\n$")
                finally:
                    running.kill()
                    running.communicate()


def without_own(value, epochs):
    """An answer without what differs: epochs become their letters."""
    if isinstance(value, dict):
        return {name: "own" if name in OWN else without_own(part, epochs) for name, part in value.items()}
    if isinstance(value, list):
        return [without_own(part, epochs) for part in value]
    if isinstance(value, str) and re.search(r"[A-Z0-9-]+\.[0-9a-z]+\.", value):
        return re.sub(r"\.[0-9a-z]{2,}\.", ".E.", value)
    return "E" if value in epochs else value


class Kit(unittest.IsolatedAsyncioTestCase):
    maxDiff = None

    def messages(self, epoch):
        """One of each kind that clients send."""
        a, b, unused = "KIT-A", "KIT-B", "KIT-C"
        at = lambda seq: {"epoch": epoch, "seq": seq}
        beginning, elsewhere = {"epoch": 0, "seq": 0}, {"epoch": 7, "seq": 1}
        yield from [
            {"type": "subscribe_region", "regions": [a]},
            {"type": "subscribe_region", "region": a.lower(), "since": at(1)},
            {"type": "subscribe_region", "regions": [a, b, unused], "since": dict.fromkeys([b, a, unused], beginning)},
            {"type": "subscribe_region", "regions": [a, unused], "since": {a: elsewhere, unused: elsewhere}},
            {"type": "subscribe_region", "regions": [a, b], "since": {a: at(3)}},
            {"type": "keepalive", "regions": [a, b, "KIT-D"], "since": {a: at(2), b: beginning, unused: beginning}},
            {"type": "keepalive", "regions": [a], "since": {a: at(3)}},
            {"type": "ping"},
        ]

    def refused(self):
        """On a connection of their own, as one may send ten messages at once."""
        return [
            {"type": "unsubscribe_region", "regions": ["KIT-A", "KIT-B"]},
            {"type": "unsubscribe_region", "region": "KIT-A"},
            {"type": "subscribe_region", "regions": [f"KIT-{number}" for number in range(26)]},
            {"type": "subscribe_region", "regions": ["K"]},
            {"type": "subscribe_region", "regions": ["KIT-A"], "since": {"KIT-A": {"epoch": -1, "seq": 0}}},
            {"type": "unknown"},
        ]

    async def talk(self, address, messages):
        answers = []
        async with asyncio.timeout(WAIT_MAX), connect(address) as socket:
            for message in messages:
                await socket.send(json.dumps(message))
                # Alerts of before may still be on their way.
                while (frame := json.loads(await socket.recv()))["type"] == "viral_alert":
                    pass
                answers.append(frame)
        return answers

    async def pages(self, address, epoch):
        cursors = [f"KIT-A.{base36(epoch)}.1", "KIT-A.7.1", "_", None]
        queries = [{"region": "KIT-A", "limit": "2"} | ({"after": after} if after else {}) for after in cursors]
        queries.append({"region": "KIT-A,KIT-B,KIT-C", "after": f"KIT-A.{base36(epoch)}.0_KIT-B.0.0"})
        return [await asyncio.to_thread(read, f"{address}/alerts?{urllib.parse.urlencode(query)}") for query in queries]

    async def test_its_gateway_answers_as_the_service_does(self):
        for region, count in (("KIT-A", 3), ("KIT-B", 1)):
            await asyncio.to_thread(publish, region, count)
        async with Gateway(Changes()) as gateway:
            for region, count in (("KIT-A", 3), ("KIT-B", 1)):
                for _ in range(count):
                    gateway.logs.publish(region, {"id": "v", "title": "Zażółć 🎉"}, {})
            theirs = (WEBSOCKET_ADDRESS, HTTP_ADDRESS)
            ours = (f"ws://{gateway.address}/prod", f"http://{gateway.address}")
            found = []
            for sockets, http in (theirs, ours):
                positions = (await asyncio.to_thread(read, f"{http}/alerts?region=KIT-A,KIT-B"))["positions"]
                epochs = {positions[region]["epoch"] for region in ("KIT-A", "KIT-B")}
                epoch = positions["KIT-A"]["epoch"]
                answers = await self.talk(sockets, self.messages(epoch))
                answers += await self.talk(sockets, self.refused())
                answers += await self.pages(http, epoch)
                found.append([without_own(answer, epochs) for answer in answers])
        for service, kit in zip(*found):
            with self.subTest(str(service)[:60]):
                self.assertEqual(kit, service)


def base36(number):
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def read(address):
    with urllib.request.urlopen(address, timeout=WAIT_MAX) as response:
        return json.load(response)


if __name__ == "__main__":
    unittest.main()
