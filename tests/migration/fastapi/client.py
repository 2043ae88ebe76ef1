"""Prints the notifications of a user.  client.py ws://host:8000/ws TOKEN [REGION]"""

import asyncio
import json
import random
import sys
from urllib.parse import urlencode

import websockets


async def main(url, token="", region=""):
    query = urlencode({name: value for name, value in [("token", token), ("region", region)] if value})
    delay = 1
    while True:
        try:
            async with websockets.connect(f"{url}?{query}") as ws:
                delay = 1
                print("connected")
                async for text in ws:
                    message = json.loads(text)
                    # Changed: was `message["text"]`.
                    print(f"Notification: {message['title']}")
        except websockets.ConnectionClosed as closed:
            if closed.rcvd and closed.rcvd.code in (4001, 4002):
                print(f"log in again: {closed.rcvd.reason}")
                return 1
        except websockets.WebSocketException as error:
            print(f"cannot connect: {error}")
            return 2
        except OSError as error:
            print(f"network: {error}")
        await asyncio.sleep(delay * random.uniform(0.5, 1))
        delay = min(delay * 2, 30)


sys.exit(asyncio.run(main(*sys.argv[1:])))
