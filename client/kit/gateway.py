"""A gateway of faults: the service of docs/protocol.md on one port, WebSockets and `GET /alerts`.

It keeps to the protocol except where a case says otherwise, and notes what a client does against the protocol.
"""

import asyncio
import dataclasses
import http
import json
import re
import urllib.parse

from log import ALERTS_MAX, ALL, POSITIONS_MAX, REGIONS_MAX, Logs, positions_of
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

# Bounds of the protocol for one connection.
SUBSCRIPTIONS_MAX = 100
MESSAGE_BYTES_MAX = 32 * 1024
MESSAGES_PER_SECOND = 10
# An old connection, and the one that replaces it.
CONNECTIONS_MAX = 2


class Changes:
    """Lets a case wait for a condition, which is looked at whenever something has happened."""

    def __init__(self):
        self._waiting = []

    def happened(self):
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def until(self, condition):
        while not condition():
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting


@dataclasses.dataclass(eq=False)
class Connection:
    socket: object
    regions: set = dataclasses.field(default_factory=set)
    messages: list = dataclasses.field(default_factory=list)
    # Regions by the id of each subscription of AppSync.
    channels: dict = dataclasses.field(default_factory=dict)
    # A client may send again at this time.
    silent_until: float = 0
    tokens: float = MESSAGES_PER_SECOND
    heard_at: float = 0
    # The service has closed the connection, and the client has not noticed.
    marked_closed: bool = False


class Gateway:
    def __init__(self, changes):
        self.changes = changes
        self.logs = Logs()
        self.connections = []
        self.frozen = []
        # Times of all attempts to connect, refused ones too.
        self.attempts = []
        # Every connection that there was.
        self.opened = []
        # How the connections ended last, and how many attempts there were before.
        self.ending = None
        self.requests = 0
        self.violations = []
        # What goes wrong next.
        self.refusals = []
        self.refused = None
        self.hanging = 0
        self.answers = []
        self.history = []
        self.accepted_tokens = None
        # Alerts that went to every connection, by region, epoch and number.
        self.to_everyone = set()
        self.forbidden = {}
        self.alerts_max = ALERTS_MAX
        self.advice = {"reconnect_within_ms": 1_000, "rotate_after_ms": 6_600_000}
        # Coroutine functions by the moment at which each runs once.
        self.hooks = {}
        # Regions that were refused when they were asked for alone.
        self._refused_regions = set()

    async def __aenter__(self):
        options = {"select_subprotocol": self._choose, "process_request": self._request, "ping_interval": None}
        # The gateway accepts no compression.
        options |= {"compression": None, "open_timeout": None, "close_timeout": 1}
        self._server = await serve(self._serve, "127.0.0.1", 0, **options)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.cut()
        for socket in self._server.all_connections:
            socket.transport.abort()
        self._server.close()

    def _choose(self, _, offered):
        return "viral-alerts" if "viral-alerts" in offered else None

    def _now(self):
        return asyncio.get_running_loop().time()

    def _note(self, violation):
        self.violations.append(violation)
        self.changes.happened()

    async def _moment(self, name):
        if hook := self.hooks.pop(name, None):
            await hook()

    # --- What a case makes happen -------------------------------------------------------------------------------------

    async def push(self, entry, everyone=False):
        """Sends a frame of the log to its subscribers, or to every connection."""
        for connection in list(self.connections):
            if everyone or {entry["region"], ALL} & connection.regions:
                await self.send(connection, entry | ({"everyone": True} if everyone else {}))

    async def send(self, connection, frame):
        text = frame if isinstance(frame, str) else json.dumps(frame, ensure_ascii=False)
        try:
            await connection.socket.send(text)
        except ConnectionClosed:
            pass

    def no_return(self):
        """What ended the connections, if nobody has connected since. Otherwise None."""
        how, attempts = self.ending or (None, 0)
        return how if attempts == len(self.attempts) else None

    def _ends(self, how):
        if self.connections:
            self.ending = how, len(self.attempts)

    def cut(self):
        """Ends all connections without a close frame."""
        self._ends("cut the connection")
        for connection in self.connections:
            connection.socket.transport.abort()
        self.connections.clear()

    async def close(self, code):
        self._ends(f"closed the connection with {code}")
        closing = list(self.connections)
        self.connections.clear()
        await asyncio.gather(*(connection.socket.close(code) for connection in closing))

    def freeze(self):
        """Leaves all connections half open: nothing is read and nothing answered, not even a ping."""
        self._ends("left the connection half open")
        for connection in self.connections:
            connection.socket.transport.pause_reading()
        self.frozen += self.connections
        self.connections.clear()

    def thaw(self):
        """Ends what is half open: a client would wait for it at its own end."""
        for connection in self.frozen:
            connection.socket.transport.abort()

    # --- Handshakes and history ---------------------------------------------------------------------------------------

    async def _request(self, socket, request):
        address = urllib.parse.urlsplit(request.path)
        query = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
        if address.path == "/alerts":
            return await self._history(query, request.headers)
        self.attempts.append(self._now())
        self.changes.happened()
        await self._moment("handshake")
        if self.hanging:
            self.hanging -= 1
            await socket.wait_closed()
            return None
        offered = re.split(r"\s*,\s*", request.headers.get("Sec-WebSocket-Protocol", ""))
        bearers = [part.removeprefix("bearer.") for part in offered if part.startswith("bearer.")]
        token = bearers[0] if bearers else query.get("token")
        if self.refusals:
            return respond(self.refusals.pop(0))
        if self.refused:
            return respond(self.refused)
        return respond(401) if self._refuses(address, token) else None

    def _refuses(self, _, token):
        return self.accepted_tokens is not None and token not in self.accepted_tokens

    async def _history(self, query, headers):
        self.requests += 1
        self.changes.happened()
        fault = self.history.pop(0) if self.history else None
        if isinstance(fault, int):
            return respond(fault)
        token = headers.get("Authorization", "").removeprefix("Bearer ") or query.get("token")
        if self.accepted_tokens is not None and token not in self.accepted_tokens:
            return respond(401, {"error": error("unauthorized", "token")})
        regions = query.get("region", "").split(",")
        try:
            after = self._after(query.get("after"), regions)
            if not set(query) <= {"region", "after", "limit", "token"} or len(regions) > REGIONS_MAX:
                raise ValueError("invalid query")
            limit = min(int(query.get("limit", 100)), ALERTS_MAX)
        except ValueError as invalid:
            self._note(f"asked for history with {query}: {invalid}")
            return respond(400, {"error": error("invalid_field", "after")})
        response = await self._page(regions, after, limit)
        if fault == "truncated":
            response.body = response.body[: len(response.body) // 2]
        elif fault == "garbage":
            response = respond(200, "<html>")
        return response

    async def _page(self, regions, after, limit):
        page = self.logs.page(regions, after, limit)
        await self._moment("page")
        return respond(200, page)

    def _after(self, text, regions):
        if text is None:
            return None
        if text.isdigit() and len(regions) == 1:
            return {regions[0]: {"epoch": self.logs.head(regions[0])["epoch"], "seq": int(text)}}
        return positions_of(text)

    # --- Messages -----------------------------------------------------------------------------------------------------

    async def _serve(self, socket):
        connection = Connection(socket, heard_at=self._now())
        self.opened.append(connection)
        self.connections.append(connection)
        if len(self.connections) > CONNECTIONS_MAX:
            self._note(f"has {len(self.connections)} connections at once")
        self.changes.happened()
        try:
            async for text in socket:
                await self._receive(connection, text)
        except ConnectionClosed:
            pass
        finally:
            if connection in self.connections:
                self.connections.remove(connection)
            self.changes.happened()

    async def _receive(self, connection, text):
        try:
            message = json.loads(text) if isinstance(text, str) else None
        except ValueError:
            message = None
        if not isinstance(message, dict) or len(text) > MESSAGE_BYTES_MAX:
            self._note(f"sent what is no message: {text[:80]!r}")
            return
        if message.get("type") == "ping":
            await self.send(connection, {"type": "pong"})
            return
        connection.messages.append(message)
        self._check_rate(connection)
        self.changes.happened()
        await self._moment("subscribing")
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, dict) and "retry_after_ms" in answer:
                connection.silent_until = self._now() + answer["retry_after_ms"] / 1_000
        else:
            answer = await self._answer(connection, message)
        if answer != "nothing":
            await self.send(connection, answer)
        self.changes.happened()

    def _check_rate(self, connection):
        now = self._now()
        if now < connection.silent_until:
            self._note("sent a message before `retry_after_ms` was over")
        allowed = connection.tokens + (now - connection.heard_at) * MESSAGES_PER_SECOND
        connection.tokens = min(MESSAGES_PER_SECOND, allowed) - 1
        connection.heard_at = now
        if connection.tokens < 0:
            self._note("sent more than 10 messages per second")

    async def _answer(self, connection, message):
        kind, since = message.get("type"), message.get("since")
        given = message["regions"] if "regions" in message else [message.get("region")]
        if kind not in ("subscribe_region", "unsubscribe_region", "keepalive"):
            return error("unknown_type", "type")
        regions = [str(region).strip().upper() for region in given]
        invalid = [at for at, region in enumerate(regions) if not re.fullmatch("[A-Z][A-Z0-9-]{1,15}", region)]
        if invalid or not regions:
            return self._refuse("invalid_region", f"regions[{invalid[0]}]" if invalid else "regions", message)
        if len(regions) > (SUBSCRIPTIONS_MAX if kind == "keepalive" else REGIONS_MAX):
            return self._refuse("invalid_field", "regions", message)
        named = {"region": regions[0]} if "region" in message else {"regions": regions}
        if kind == "unsubscribe_region":
            connection.regions -= set(regions)
            return {"type": "unsubscribed", **named}
        if connection.marked_closed:
            return error("connection_closed", None, retryable=True)
        try:
            since = since_of(since, regions)
        except ValueError as invalid:
            return self._refuse("invalid_field", f"since{invalid}", message)
        except (AttributeError, KeyError, TypeError):
            return self._refuse("invalid_field", "since", message)
        if refusal := next((self.forbidden[region] for region in regions if region in self.forbidden), None):
            if len(regions) == 1 and regions[0] in self._refused_regions:
                self._note(f"asked for {regions[0]} again, which was refused")
            self._refused_regions |= set(regions) if len(regions) == 1 else set()
            return error(refusal, "regions")
        if kind == "keepalive":
            behind = self.logs.behind(regions, since or {})
            missing = [region for region in regions if region not in connection.regions]
            lists = {"behind": behind, "missing": missing}
            return {"type": "kept"} | {name: found for name, found in lists.items() if found}
        connection.regions |= set(regions)
        if len(connection.regions) > SUBSCRIPTIONS_MAX:
            connection.regions -= set(regions)
            return error("limit_reached", "regions")
        self.changes.happened()
        await self._moment("subscribed")
        answer = {"type": "subscribed", **named, **self.logs.answer(regions, since, self.alerts_max), **self.advice}
        await self._moment("answering")
        return answer

    def _refuse(self, code, field, message):
        self._note(f"sent an invalid {field}: {json.dumps(message)[:200]}")
        return error(code, field)


def since_of(since, regions):
    """The positions of a message. Raises where they are not in the form of the protocol."""
    if since is None:
        return None
    if len(regions) == 1 and "epoch" in since:
        since = {regions[0]: since}
    if len(since) > POSITIONS_MAX:
        raise ValueError
    for region, at in since.items():
        for name in ("epoch", "seq"):
            if not isinstance(at[name], int) or at[name] < 0:
                raise ValueError(f".{region}.{name}")
    return since


def error(code, field, retryable=False):
    return {"type": "error", "code": code, "message": f"{code}, as the case says", "retryable": retryable} | (
        {"field": field} if field else {}
    )


def respond(status, body=None):
    """An answer over HTTP. Without a body it is that of API Gateway itself."""
    reason = http.HTTPStatus(status).phrase
    text = body if isinstance(body, str) else json.dumps(body or {"message": reason}, ensure_ascii=False)
    content = text.encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(content)), "Connection": "close"})
    return Response(status, reason, headers, content)
