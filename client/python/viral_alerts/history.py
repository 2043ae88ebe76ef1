"""The log of the service over HTTP: `GET /alerts`."""

import asyncio
import json
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import Future
from contextlib import suppress
from http.client import HTTPResponse
from typing import Any

from .events import Frame, Position

# Bounds in seconds and bytes.
ANSWER_MAX, PAGE_BYTES_MAX = 15, 1024 * 1024
# Positions in a request, and bytes of a cursor. Source: docs/protocol.md.
POSITIONS_MAX, CURSOR_MAX = 300, 4_096


class _Handler(urllib.request.HTTPRedirectHandler, urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """One request, which can be ended from another thread."""

    _socket: socket.socket | None = None
    _is_ended = False

    def redirect_request(self, *_: Any) -> None:
        """Follows no redirect, which would pass the token on to somebody else."""

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> HTTPResponse:
        def start(host: str, **more: Any) -> Any:
            connection = http_class(host, **more)

            def connect() -> None:
                http_class.connect(connection)
                self._socket = connection.sock
                if self._is_ended:
                    self.end()

            connection.connect = connect
            return connection

        return super().do_open(start, req, **options)

    def end(self) -> None:
        self._is_ended = True
        if self._socket:
            # It may have ended on its own.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def _base36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def cursor(positions: dict[str, Position]) -> str:
    """The cursor for these positions, as many as the service takes. The others are read after them."""
    parts = [f"{region}.{_base36(at['epoch'])}.{_base36(at['seq'])}" for region, at in positions.items()]
    while len("_".join(parts)) > CURSOR_MAX or len(parts) > POSITIONS_MAX:
        parts.pop()
    return "_".join(parts) or "_"


def _read(handler: _Handler, request: urllib.request.Request, answer: Future[Any]) -> None:
    try:
        with urllib.request.build_opener(handler).open(request, timeout=ANSWER_MAX) as response:
            answer.set_result(json.loads(response.read(PAGE_BYTES_MAX)))
    except urllib.error.HTTPError as error:
        error.close()
        answer.set_exception(error)
    except Exception as error:
        answer.set_exception(ConnectionError(f"no page: {error!r}"))


async def read_page(http_url: str, token: str, regions: list[str], after: str) -> Frame:
    """Reads the page after a cursor. Raises OSError, which has a `status` if the service answered with an error."""
    query = urllib.parse.urlencode({"region": ",".join(regions), "after": after})
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{http_url}/alerts?{query}", headers=headers)
    handler, answer = _Handler(), Future[Any]()
    # From now on it cannot be cancelled, so the thread may always set it.
    answer.set_running_or_notify_cancel()
    # At its end, a program would wait for a thread of the executor that hangs.
    threading.Thread(target=_read, args=(handler, request, answer), name="viral_alerts", daemon=True).start()
    try:
        # The timeout of a socket begins anew with each byte.
        async with asyncio.timeout(ANSWER_MAX):
            page = await asyncio.wrap_future(answer)
    finally:
        handler.end()
    if not isinstance(page, dict) or not isinstance(page.get("positions"), dict):
        raise ConnectionError("no page: expected an object with positions")
    return page
