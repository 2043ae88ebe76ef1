"""Watches regions and prints a line for each viral video.  client.py ws://host:8765 pl nl"""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

PING_SECONDS = float(os.environ.get("PING_SECONDS", 25))
DELAY_MIN, DELAY_MAX = 1, 30


async def keep_alive(socket):
    while True:
        await asyncio.sleep(PING_SECONDS)
        await socket.send(json.dumps({"type": "ping"}))


async def watch(url, regions):
    delay = DELAY_MIN
    while True:
        try:
            async with connect(url) as socket:
                delay = DELAY_MIN
                pinger = asyncio.create_task(keep_alive(socket))
                try:
                    for region in regions:
                        await socket.send(json.dumps({"type": "subscribe_region", "region": region}))
                    async for text in socket:
                        handle(json.loads(text))
                finally:
                    pinger.cancel()
        except (OSError, WebSocketException) as error:
            print(f"connection lost: {type(error).__name__}")
        print(f"reconnecting in {delay} s")
        await asyncio.sleep(delay)
        delay = min(delay * 2, DELAY_MAX)


def handle(message):
    if message["type"] == "subscribed":
        print(f"subscribed to {message['region']}")
    elif message["type"] == "pong":
        print("pong")
    elif message["type"] == "viral_alert":
        video = message["video"]
        fields = json.dumps(video, ensure_ascii=False)
        print(f"Viral in {message['region']}! {video['title']} {fields} {message['timestamp']}")


asyncio.run(watch(sys.argv[1], sys.argv[2:]))
