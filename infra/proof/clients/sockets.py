"""A WebSocket client that needs little memory: reads texts, answers pings. Standard library only."""

import asyncio
import base64
import hashlib
import os
import ssl
import struct
from urllib.parse import urlsplit

# Source: RFC 6455.
ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

# Frames of API Gateway have at most 32 KB, and messages 128 KB.
MESSAGE_BYTES_MAX = 256 * 1024
READ_BYTES = 16 * 1024
HANDSHAKE_SECS_MAX = 30
TLS = ssl.create_default_context()


class Refused(Exception):
    """The handshake was answered with this status, or with none (0)."""

    def __init__(self, status):
        super().__init__(f"refused with {status}")
        self.status = status


class Socket:
    """An open connection."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    async def text(self):
        """Returns the next text, or None once the connection has ended."""
        whole = b""
        while True:
            try:
                first, second = await self._reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack(">H", await self._reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
                if size + len(whole) > MESSAGE_BYTES_MAX:
                    return None
                payload = await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, OSError):
                return None
            code = first & 0x0F
            if code == CLOSE:
                return None
            if code == PING:
                self._send(PONG, payload)
            elif code < CLOSE:
                whole += payload
                if first & 0x80:
                    return whole.decode(errors="replace")

    def _send(self, code, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._writer.write(bytes([0x80 | code, 0x80 | len(payload)]) + mask + masked)

    def close(self):
        """Sends a close frame and hangs up."""
        if not self._writer.is_closing():
            self._send(CLOSE, struct.pack(">H", 1000))
        self._writer.close()


async def connected(url):
    """Connects to ws://… or wss://…, or raises Refused."""
    try:
        return await asyncio.wait_for(handshake(urlsplit(url)), HANDSHAKE_SECS_MAX)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
        raise Refused(0) from None


async def handshake(url):
    secure = url.scheme == "wss"
    port = url.port or (443 if secure else 80)
    tls = {"ssl": TLS, "server_hostname": url.hostname} if secure else {}
    reader, writer = await asyncio.open_connection(url.hostname, port, limit=READ_BYTES, **tls)
    try:
        key = base64.b64encode(os.urandom(16))
        target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        host = url.netloc.rpartition("@")[2]
        head = [f"GET {target} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
        head += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key.decode()}", "", ""]
        writer.write("\r\n".join(head).encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        pairs = (line.partition(":") for line in lines[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        accepted = base64.b64encode(hashlib.sha1(key + ACCEPT).digest()).decode()
        if status != 101 or headers.get("sec-websocket-accept") != accepted:
            raise Refused(status)
    except BaseException:
        writer.close()
        raise
    return Socket(reader, writer)
