"""A function that holds clients of a WebSocket API, and reports when they got which alert.

It connects on a schedule that it shares with the other functions of its round, and ends when the board says so, or at
its deadline. The board is a table: the function writes an item with its counts every two seconds, and at its end one
with every latency.
"""

import asyncio
import collections
import json
import os
import time
from datetime import datetime

import boto3
from sockets import Refused, connected

REPORT_SECS = 2
ATTEMPTS = 8
# Pause before the next attempt, in seconds, times the number of the attempt.
RETRY_SECS = 1.5

TABLE = boto3.client("dynamodb")


def handler(event, context):
    asyncio.run(Crowd(event).run())


class Crowd:
    """The clients of one function."""

    def __init__(self, event):
        self.event = event
        self.round, self.index = event["round"], event["index"]
        self.until = event["until"]
        self.open = 0
        self.connected = 0
        self.lost = 0
        # Frames of an alert that the client has already.
        self.duplicates = 0
        self.socket_secs = 0.0
        # Answers to handshakes that did not connect, by status.
        self.refused = collections.Counter()
        # Milliseconds from an alert's commit to its arrival, by the id of the alert.
        self.latencies = collections.defaultdict(list)
        self.ending = asyncio.Event()

    async def run(self):
        clients = [asyncio.create_task(self.client(number)) for number in range(self.event["clients"])]
        while not self.ending.is_set() and time.time() < self.until:
            await asyncio.sleep(REPORT_SECS)
            await asyncio.to_thread(self.report)
            if await asyncio.to_thread(self.is_over):
                break
        self.ending.set()
        await asyncio.gather(*clients)
        await asyncio.to_thread(self.report, True)

    async def client(self, number):
        """Connects when it is this client's turn, and notes every alert."""
        event = self.event
        turn = event["start_at"] + (number * event["functions"] + self.index) / event["connects_per_sec"]
        if await self.is_ending(turn - time.time()):
            return
        for attempt in range(1, ATTEMPTS + 1):
            try:
                socket = await connected(event["url"])
                break
            except Refused as refused:
                self.refused[str(refused.status)] += 1
                if await self.is_ending(attempt * RETRY_SECS):
                    return
        else:
            return
        self.open += 1
        self.connected += 1
        started = time.time()
        reading = asyncio.create_task(self.read(socket))
        ending = asyncio.create_task(self.ending.wait())
        await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            self.lost += 1
        else:
            # In turn, too, so that functions for $disconnect do not start all at once.
            await asyncio.sleep((number * event["functions"] + self.index) / event["closes_per_sec"])
        self.open -= 1
        self.socket_secs += time.time() - started
        ending.cancel()
        socket.close()
        reading.cancel()

    async def read(self, socket):
        seen = set()
        while (text := await socket.text()) is not None:
            arrived = time.time() * 1_000
            message = json.loads(text)
            if message.get("type") != "viral_alert":
                continue
            if message["id"] in seen:
                self.duplicates += 1
            else:
                seen.add(message["id"])
                committed = datetime.fromisoformat(message["timestamp"].replace("Z", "+00:00")).timestamp() * 1_000
                self.latencies[message["id"]].append(round(arrived - committed))

    async def is_ending(self, secs):
        """Waits for `secs`, or until the end. Returns whether it is the end."""
        try:
            await asyncio.wait_for(self.ending.wait(), max(secs, 0))
        except asyncio.TimeoutError:
            return False
        return True

    def is_over(self):
        key = {"name": {"S": f"{self.round}/over"}}
        return "Item" in TABLE.get_item(TableName=os.environ["BOARD"], Key=key)

    def report(self, is_last=False):
        numbers = {"open": self.open, "connected": self.connected, "lost": self.lost, "duplicates": self.duplicates}
        said = {**numbers, "refused": self.refused, "alerts": {id: len(all) for id, all in self.latencies.items()}}
        if is_last:
            said |= {"last": True, "socket_secs": round(self.socket_secs), "latencies": self.latencies}
        item = {"name": {"S": f"{self.round}/{self.index}"}, "said": {"S": json.dumps(said)}}
        TABLE.put_item(TableName=os.environ["BOARD"], Item=item)
