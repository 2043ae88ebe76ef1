"""The client: keeps one connection, recovers what is missing, and hands events to the application."""

import asyncio
import contextlib
import inspect
import json
import logging
import random
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from .events import Alert, Event, Failure, Frame, Gap, Position, Removed, Subscribed, ViralAlertsError
from .history import ANSWER_MAX, POSITIONS_MAX, cursor, read_page
from .log import ALL, BEGINNING, Log, is_logged

# Events that wait for the application. Alerts and gaps that come beyond them are recovered later. Removals and failures
# have as much room again, and then are left out.
QUEUE_MAX = 1_000
# Times in seconds: the window of the first reconnect and the age of a connection until the service advises them, the
# longest window, the keepalive (the gateway closes a connection after ten silent minutes), the wait for a missing
# alert, and the wait after an error of HTTP, which both grow.
RECONNECT_WITHIN, ROTATE_AFTER, BACKOFF_MAX = 5.0, 6_600.0, 30.0
KEEPALIVE, HEAL, HTTP_RETRY = 570.0, 0.5, 4.0
# The longest times that the service may advise: a connection lives for two hours, a window has ten minutes.
ADVICE_MAX, WITHIN_MAX = 7_200.0, 600.0
# Pages that are read without a pause.
PAGES_MAX = 100
# The shortest interval in seconds, of keepalives and between connections that replace each other.
INTERVAL_MIN = 1.0
# Source: docs/protocol.md, and the gateway's quota for messages.
REGIONS_MAX, MESSAGE_BYTES_MAX = 25, 128 * 1024
# Messages per second, of which the service takes ten. Some may be held up on the way, and arrive together.
MESSAGES_PER_SECOND = 8
# Subscriptions beside ALL, to regions of which alerts were missing. A connection can have 100.
SURPLUS_MAX = 50
# Options of a connection. The gateway declines compression; pings do not end the ten silent minutes, messages do.
OPTIONS: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1}
# What the subprotocol of a WebSocket can carry. Source: RFC 6455, section 4.1.
TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]*", re.ASCII)
# Types of frames that answer a request. All others are pushes, some of types that this client does not know.
ANSWERS = re.compile(r"(un)?subscribed|kept|error|pong")
# How a connection ends, if not by a mistake in this file.
ENDS = (OSError, WebSocketException, ViralAlertsError)

Token = str | Callable[[], str | Awaitable[str]]
logger = logging.getLogger("viral_alerts")


class Handshake(connect):
    """A handshake that follows no redirect, which would pass the token on to somebody else."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


@dataclass(eq=False)
class Connection:
    """`ready` is set when everything is subscribed, and when the connection has ended."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    subscribed: set[str] = field(default_factory=set)
    answer: asyncio.Future[Frame] | None = None
    # Regions in one message, retries of the same message, and whether a keepalive is due.
    batch: int = REGIONS_MAX
    tries: int = 0
    idle: bool = False
    # Times of the last messages.
    sent: deque[float] = field(default_factory=lambda: deque(maxlen=MESSAGES_PER_SECOND))


class ViralAlerts(AsyncIterator[Event]):
    """Follows regions. Iterate over it for events; the loop raises ViralAlertsError once the token is refused.

    `url` is the WebSocket API with its stage, `http_url` the HTTP API, without which alerts that do not fit in one
    answer are lost as a Gap. `token` may be a function, also an asynchronous one, and is asked for each connection and
    page. `positions` are those of an earlier run, which are kept for the regions that are watched from the start.
    `keepalive` and `reconnect_within` are in seconds. Raises ValueError for what cannot be an address, a region or a
    time.
    """

    def __init__(
        self,
        url: str,
        regions: Iterable[str] = (),
        *,
        http_url: str | None = None,
        token: Token = "",
        positions: dict[str, Position] | None = None,
        keepalive: float = KEEPALIVE,
        reconnect_within: float | None = None,
    ) -> None:
        self._url, self._token = address_of("url", "ws", url), token
        self._http_url = address_of("http_url", "http", http_url).rstrip("/") if http_url else None
        self._keepalive, self._reconnect_within = keepalive, reconnect_within
        # Of what is not a number, no comparison is true.
        if not keepalive >= INTERVAL_MIN:
            raise ValueError(f"invalid keepalive {keepalive}: expected at least {INTERVAL_MIN} s")
        if reconnect_within is not None and not 0 <= reconnect_within < float("inf"):
            raise ValueError(f"invalid reconnect_within {reconnect_within}: expected a time in seconds from 0")
        # What the service advises, in seconds.
        self._within, self._rotate_after = RECONNECT_WITHIN, ROTATE_AFTER
        self._log = Log(self._emit, self._heal, self._full)
        # Regions that are watched, of these the ones that have not begun, and those that the service refused.
        self._watched, self._pending, self._refused = set[str](), set[str](), set[str]()
        # When to ask again for a region of which alerts are missing. Until then they may arrive on their own.
        self._behind = dict[str, float]()
        # Failures to read a page in a row.
        self._unread = 0
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._events: deque[tuple[Event, dict[str, Position]]] = deque()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        for region in [regions] if isinstance(regions, str) else regions:
            self.watch(region)
        self._told = {name: at for name, at in (positions or {}).items() if {name, ALL} & self._watched}
        for region, at in self._told.items():
            self._log.follow(region, (at["epoch"], at["seq"]))

    @property
    def positions(self) -> dict[str, Position]:
        """Where the application is: the position of each region after the last event. Pass it to the next run."""
        return dict(self._told)

    def watch(self, region: str) -> None:
        name = region_of(region)
        if name not in self._watched:
            self._watched.add(name)
            self._pending.add(name)
            self._log.follow(name)
            self._wake()

    def unwatch(self, region: str) -> None:
        for regions in (self._watched, self._pending, self._refused):
            regions.discard(region_of(region))
        self._log.keep(self._watched)
        self._told = {name: at for name, at in self._told.items() if {name, ALL} & self._watched}
        self._events = deque(waiting for waiting in self._events if self._concerns(waiting[0]))
        self._wake()

    async def close(self) -> None:
        """Closes the connection for good. The loop ends once it has had the events until now."""
        task = self._start()
        task.cancel()
        await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __anext__(self) -> Event:
        task = self._start()
        while not self._events:
            if task.done():
                if not task.cancelled():
                    task.result()
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        event, positions = self._events.popleft()
        self._told |= positions
        return event

    # --- Events -------------------------------------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        if isinstance(event, (Removed, Failure)) and len(self._events) >= 2 * QUEUE_MAX:
            return logger.warning("left out, because %d events wait for the application: %s", len(self._events), event)
        mark = {ALL: Position(epoch=0, seq=0)} if event == Subscribed(ALL) else {}
        self._events.append((event, self._log.positions([event.region or ""]) | mark))
        self._changed.set()

    def _full(self) -> bool:
        return len(self._events) >= QUEUE_MAX

    def _concerns(self, event: Event) -> bool:
        return getattr(event, "everyone", False) or not event.region or bool({event.region, ALL} & self._watched)

    def _announce(self) -> None:
        """Tells which regions have begun, with all positions that are known."""
        for region in sorted(self._pending):
            if self._log.has(region) or self._log.has(ALL):
                self._log.follow(region, BEGINNING)
                self._pending.discard(region)
                self._emit(Subscribed(region))

    def _heal(self, region: str, tries: int, wait: float = 0) -> None:
        """Asks for a region again if its missing alerts do not arrive on their own."""
        self._behind.setdefault(region, asyncio.get_running_loop().time() + (wait or HEAL * 2**tries))
        self._wake()

    def _wake(self) -> None:
        for connection in self._connections.values():
            connection.wake.set()

    # --- Connections --------------------------------------------------------------------------------------------------

    def _start(self) -> asyncio.Task[None]:
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(lambda _: self._changed.set())
        return self._task

    async def _run(self) -> None:
        current: asyncio.Task[None] | None = None
        failures = 0
        try:
            while True:
                connection = Connection()
                attempt = asyncio.create_task(self._converse(connection))
                self._connections[attempt] = connection
                attempt.add_done_callback(self._ended)
                await connection.ready.wait()
                if not attempt.done():
                    if current:
                        current.cancel()
                    current, failures = attempt, 0
                else:
                    self._check(attempt.exception(), logging.WARNING)
                if current:
                    pause = self._rotate_after if current is attempt else self._backoff(failures)
                    await asyncio.wait([current], timeout=pause)
                    if current.done():
                        self._check(current.exception())
                        current = None
                if current is None:
                    await asyncio.sleep(self._backoff(failures))
                failures += 1
        finally:
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).ready.set()
        # One that is replaced may have failed, which nobody asks any more.
        if not task.cancelled():
            task.exception()

    def _check(self, error: BaseException | None, level: int = logging.INFO, what: str = "connection ended") -> None:
        """Looks why a connection or page has failed. Raises what ends the client."""
        status = error.response.status_code if isinstance(error, InvalidStatus) else getattr(error, "status", None)
        if status == 401:
            raise ViralAlertsError("unauthorized", f"HTTP 401: token {'refused' if self._token else 'required'}")
        if isinstance(error, ViralAlertsError):
            return self._emit(Failure(error.code, str(error)))
        if error and not isinstance(error, ENDS):
            raise error
        logger.log(level, "%s: %r", what, error)

    def _backoff(self, failures: int) -> float:
        """A random time in the window, which each failure doubles. That spreads clients that were cut off together."""
        within = self._within if self._reconnect_within is None else self._reconnect_within
        return random.random() * max(within, min(BACKOFF_MAX, (within or 1) * 2.0 ** min(failures, 16)))

    async def _ask_token(self) -> str:
        try:
            async with asyncio.timeout(ANSWER_MAX):
                given = self._token() if callable(self._token) else self._token
                token = await given if inspect.isawaitable(given) else given
            if TOKEN.fullmatch(token):
                return token
            raise ValueError("invalid token: expected characters that a subprotocol can carry")
        except (Exception, asyncio.CancelledError) as error:
            # What the application's function waits for may be cancelled, which does not end the client.
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            raise ViralAlertsError("connect", f"no token: {error!r}") from error

    async def _converse(self, connection: Connection) -> None:
        """Opens a connection, and works with it until it ends."""
        token = await self._ask_token()
        protocols = [Subprotocol(name) for name in ("viral-alerts", f"bearer.{token}")] if token else None
        async with Handshake(
            self._url, subprotocols=protocols, open_timeout=ANSWER_MAX, max_size=MESSAGE_BYTES_MAX, **OPTIONS
        ) as socket:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for work in (self._read, self._work):
                        tasks.create_task(work(connection, socket))
            except ExceptionGroup as ends:
                raise ends.exceptions[0] from None

    async def _read(self, connection: Connection, socket: ClientConnection) -> None:
        while True:
            # The end of the connection raises.
            text = await socket.recv()
            try:
                frame = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if not isinstance(frame, dict):
                continue
            if frame.get("code") == "connection_closed":
                raise ConnectionError("the service has closed this connection")
            # Frames of the gateway itself have a message and no type.
            is_answer = ANSWERS.fullmatch(str(frame["type"])) if "type" in frame else "message" in frame
            if is_logged(frame):
                self._log.admit(frame)
            elif is_answer and connection.answer and not connection.answer.done():
                connection.answer.set_result(frame)

    async def _work(self, connection: Connection, socket: ClientConnection) -> None:
        """Sends one request after the other, and waits where none is due."""
        now = asyncio.get_running_loop().time
        keepalive_at = now() + self._keepalive
        while True:
            connection.wake.clear()
            kind, regions = self._due(connection, now())
            if kind:
                if len(connection.sent) == connection.sent.maxlen and (pause := connection.sent[0] + 1 - now()) > 0:
                    await asyncio.sleep(pause)
                    # What is due may be another meanwhile.
                    continue
                connection.sent.append(now())
                connection.answer = asyncio.get_running_loop().create_future()
                async with asyncio.timeout(ANSWER_MAX):
                    await socket.send(json.dumps(self._message(kind, regions)))
                    frame = await connection.answer
                try:
                    await self._take(connection, kind, regions, frame)
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise ConnectionError(f"an answer is not as promised: {error!r}") from error
                continue
            connection.ready.set()
            wake_at = min([keepalive_at, *self._behind.values()])
            with contextlib.suppress(TimeoutError):
                # What an application that is slow has no room for stays in the log.
                async with asyncio.timeout_at(max(wake_at, now() + HEAL) if self._full() else wake_at):
                    await connection.wake.wait()
            if now() >= keepalive_at:
                connection.idle, keepalive_at = True, now() + self._keepalive

    # --- Requests -----------------------------------------------------------------------------------------------------

    def _due(self, connection: Connection, now: float) -> tuple[str, list[str]]:
        """The next request: first what to leave, which makes room; then what to subscribe to; then the keepalive."""
        wanted = self._watched - self._refused
        follow = [ALL] if ALL in wanted else sorted(wanted)
        # A region that was left and is watched again begins anew.
        connection.subscribed -= {region for region in follow if not self._log.has(region)}
        surplus = sorted(connection.subscribed - set(follow))
        if surplus and (follow != [ALL] or len(surplus) > SURPLUS_MAX):
            return "unsubscribe_region", surplus[:REGIONS_MAX]
        missing = [region for region in follow if region not in connection.subscribed][: connection.batch]
        self._behind = {region: at for region, at in self._behind.items() if self._log.is_behind(region)}
        again = [] if self._full() else sorted(region for region, at in self._behind.items() if at <= now)
        # One at a time: a region that did not fit in a shared answer may fit alone.
        if asked := missing or again[:1]:
            return "subscribe_region", asked
        # Without regions there is nothing to compare: a ping keeps the connection open.
        return ("keepalive" if follow else "ping", follow) if connection.idle else ("", [])

    def _message(self, kind: str, regions: list[str]) -> Frame:
        positions = list(self._log.positions(regions).items())[:POSITIONS_MAX]
        since = {"since": dict(positions)} if any(map(self._log.has, regions)) else {}
        return {"type": kind, "regions": regions} | since

    async def _take(self, connection: Connection, kind: str, regions: list[str], frame: Frame) -> None:
        """Takes the answer to a request."""
        is_final = frame.get("retryable") is False
        if kind == "subscribe_region" and isinstance(frame.get("positions"), dict):
            await self._subscribed(connection, regions, frame)
        elif frame.get("type") == "unsubscribed":
            connection.subscribed -= set(regions)
        elif frame.get("type") in ("kept", "pong") or (is_final and kind == "keepalive"):
            connection.idle = False
            # A service that does not know the message gets new subscriptions instead.
            named = {*frame.get("behind", []), *frame.get("missing", []), *(regions if is_final else [])}
            connection.subscribed -= {ALL} if named and regions == [ALL] else named
        elif is_final and kind == "subscribe_region" and not str(frame.get("field")).startswith("since"):
            # Asked one by one, only the refused region fails.
            connection.batch = 1
            if len(regions) == 1:
                self._refused |= set(regions)
                self._pending -= set(regions)
                self._emit(Failure(str(frame.get("code")), str(frame.get("message")), regions[0]))
                self._log.give_up(regions[0])
        else:
            wait = advised(frame, "retry_after_ms", self._backoff(connection.tries), 0)
            connection.tries += 1
            return await asyncio.sleep(wait)
        connection.tries = 0

    async def _subscribed(self, connection: Connection, regions: list[str], answer: Frame) -> None:
        self._within = min(WITHIN_MAX, advised(answer, "reconnect_within_ms", self._within, 0))
        self._rotate_after = advised(answer, "rotate_after_ms", self._rotate_after, INTERVAL_MIN)
        connection.subscribed |= set(regions)
        self._behind = {region: at for region, at in self._behind.items() if region not in regions}
        elsewhere = self._http_url is not None or len(regions) > 1 or regions == [ALL]
        left = self._log.apply(answer, regions, elsewhere, self._announce)
        if self._http_url is None:
            self._behind |= dict.fromkeys(left, 0.0)
            return
        try:
            for start in range(0, len(left), REGIONS_MAX):
                await self._catch_up(self._http_url, left[start : start + REGIONS_MAX])
            self._unread = 0
        except (OSError, ViralAlertsError) as error:
            status = getattr(error, "status", 0)
            if status == 401:
                raise
            self._check(error, logging.WARNING, "page failed")
            wait = min(BACKOFF_MAX, HTTP_RETRY * 1.5 ** min(self._unread, 16))
            self._unread += 1
            for region in left:
                # What cannot be read now stays in the log, unless the service says that it may not be read.
                if 400 <= status < 500 and status != 429:
                    self._log.fail(region)
                self._heal(region, 0, wait)

    async def _catch_up(self, http_url: str, regions: list[str]) -> None:
        """Reads the log of regions page by page."""
        for _ in range(PAGES_MAX):
            after = cursor(self._log.positions(regions))
            page = await read_page(http_url, await self._ask_token(), regions, after)
            self._log.apply(page, regions, False, self._announce)
            # A page that does not move the cursor is the last one.
            if not page.get("more") or cursor(self._log.positions(regions)) == after:
                return
        # What else is due comes first, and so does an application that is slow.
        for region in regions:
            self._heal(region, 0, HTTP_RETRY)


def advised(answer: Frame, name: str, otherwise: float, least: float) -> float:
    """A time in seconds that the service advises, within bounds, because it may be any number of JSON."""
    given = answer.get(name)
    # In this order NaN, which is neither more nor less, becomes the least.
    return otherwise if given is None else max(least * 1_000, min(given, ADVICE_MAX * 1_000)) / 1_000


def region_of(text: str) -> str:
    name = text.strip().upper()
    if not re.fullmatch("[A-Z][A-Z0-9-]{1,15}", name):
        raise ValueError(f"invalid region {text!r}: expected a letter, then 1 to 15 letters, digits or -")
    return name


def address_of(option: str, scheme: str, text: str) -> str:
    address = re.sub("^http", scheme, text)
    if not re.fullmatch(rf"{scheme}s?://[^\s/?#]+[^\s#]*", address):
        raise ValueError(f"invalid {option} {text!r}: expected {scheme}s://...")
    return address


async def alerts(
    url: str, regions: Iterable[str], *, http_url: str | None = None, token: Token = ""
) -> AsyncGenerator[Alert, None]:
    """Yields the alerts of regions. Gaps and refused regions are logged."""
    async with ViralAlerts(url, regions, http_url=http_url, token=token) as client:
        async for event in client:
            if isinstance(event, Alert):
                yield event
            elif isinstance(event, (Gap, Failure)):
                logger.warning("%s", event)
