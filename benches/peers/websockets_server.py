"""An asyncio server as small projects run it: what is posted goes to every socket.

    python websockets_server.py broadcast|gather
"""

import asyncio
import sys

from websockets.asyncio.server import broadcast, serve

connected = set()


async def handle(socket):
    connected.add(socket)
    try:
        await socket.wait_closed()
    finally:
        connected.discard(socket)


async def send_each(sockets, text):
    await asyncio.gather(*(socket.send(text) for socket in sockets), return_exceptions=True)


async def publish(reader, writer, way):
    head = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n") if b":" in line)
    length = int(headers[b"content-length"])
    text = (await reader.readexactly(length)).decode()
    if way == "broadcast":
        broadcast(connected, text)
    else:
        await send_each(connected, text)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def main(way):
    sockets = await serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096)
    posts = await asyncio.start_server(lambda reader, writer: publish(reader, writer, way), "127.0.0.1", 0)
    port = lambda server: list(server.sockets)[0].getsockname()[1]
    print(f"ready ws://127.0.0.1:{port(sockets)}/ http://127.0.0.1:{port(posts)}/", flush=True)
    await asyncio.Future()


asyncio.run(main(sys.argv[1]))
