"""Logs new trending videos, and says in a header where it is: client.py ws://host:8765/ [JP]"""

import asyncio
import json
import sys

import websockets


async def main(url, region):
    headers = {"X-Region": region} if region else {}
    async for ws in websockets.connect(url, additional_headers=headers):
        print("connected")
        try:
            async for text in ws:
                message = json.loads(text)
                if message.get("event") == "new_trending":
                    print(f"New in {message['region']}: {message['title']}")
        except websockets.ConnectionClosed:
            continue


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""))
