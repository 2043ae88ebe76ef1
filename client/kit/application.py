"""The application around a client: starts an adapter, tells it what to do, and keeps what the client tells it."""

import asyncio
import contextlib
import json
import os
import re
import signal

# Bound of one line of an adapter, in bytes. An alert has 32 KB at most.
LINE_MAX = 256 * 1024
# From the end of its standard input to that of an adapter, in seconds.
STOP_MAX = 5
# Errors in one case.
ERRORS_MAX = 1_000
# Numbers of one gap.
GAP_MAX = 10_000

# Fields of an alert that reach the application as they were published.
KEPT = ("type", "region", "seq", "epoch", "id", "dir", "video", "timestamp")

ITEM = re.compile(r"(?P<kind>gap |removed )?(?P<first>\d+)(?P<to>-(?P<last>\d*))?(?P<optional>\?)?")


class NotStarted(Exception):
    """The command of the adapter cannot be run."""


class Wrong(Exception):
    """What the client did that it must not do."""


def items_of(text):
    """What is to be told of a region, such as `1-3, gap 4-5, removed 2, 6`. What has a `?` may be absent."""
    items = []
    for part in filter(None, (part.strip() for part in str(text).split(","))):
        found = ITEM.fullmatch(part)
        if not found:
            raise ValueError(f"{part!r} in a case: expected 3, 1-3, gap 4-5, gap 4- or removed 2")
        first = int(found["first"])
        kind = {"gap ": "lost", "removed ": "removed", None: "alert"}[found["kind"]]
        if kind == "lost" and found["to"] and not found["last"]:
            items.append(("lost from", first, False))
            continue
        last = int(found["last"] or first)
        items += [(kind, number, bool(found["optional"])) for number in range(first, last + 1)]
    return items


def text_of(items):
    """The short form of items, for messages."""
    texts = []
    for kind, number, *_ in items:
        texts.append(f"{number}" if kind == "alert" else f"{kind} {number}")
    return ", ".join(texts if len(texts) <= 24 else [*texts[:10], "…", *texts[-10:]]) or "nothing"


def take_off(region, expected, told):
    """Takes what was told of a region off the front of what is expected, with optional items before it.

    Raises Wrong if something else was told.
    """
    for item in told:
        while expected and expected[0][:2] != item and expected[0][2]:
            expected.pop(0)
        if not expected or expected[0][:2] != item:
            raise Wrong(f"told {region} {text_of([item])}: expected {text_of(expected)}")
        expected.pop(0)


class Application:
    """What the application is told, across restarts of its client."""

    def __init__(self, command, gateway, changes):
        self.command = command
        self.gateway = gateway
        self.changes = changes
        # By region, in order. A gap counts as its numbers, so that it may be told in parts.
        self.told = {}
        # How often each region was ready.
        self.ready = {}
        self.errors = []
        self.wrong = None
        self._removed = set()
        self._stopped = None
        self._process = None
        self._log = bytearray()

    async def start(self, settings):
        kept = {"state": self._stopped["stopped"]} if self._stopped else {}
        pipe = asyncio.subprocess.PIPE
        self._stopped = None
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                json.dumps(settings | kept),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                limit=LINE_MAX,
                # With a group of its own, what a shell or npm has started ends with it.
                start_new_session=True,
            )
        except OSError as error:
            raise NotStarted(
                f"cannot start the adapter {self.command[0]}: {error.strerror}. A script needs a first line such as "
                f"`#!/usr/bin/env python3`, or the name of its interpreter before it"
            ) from error
        self._reading = [asyncio.create_task(read) for read in (self._read(), self._read_log())]

    def tell(self, command):
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def stop(self):
        """Ends the client as an application does. It has to close its connection, and may not go on connecting."""
        attempts = len(self.gateway.attempts)
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_MAX):
                await asyncio.wait(self._reading)
                status = await self._process.wait()
                await self.changes.until(lambda: not self.gateway.connections)
        except TimeoutError:
            raise Wrong(f"did not end within {STOP_MAX} s of its standard input, or left a connection open") from None
        if self._stopped is None or status:
            raise Wrong(f"ended with status {status} and without the line `stopped`")
        # One attempt may have been under way.
        if len(self.gateway.attempts) > attempts + 1:
            raise Wrong("connected after the end of its standard input")

    async def kill(self):
        if self._process:
            # `kill` of the process would look whether it has ended, and take its status from whoever waits for it.
            # What it has started may outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            await asyncio.wait(self._reading, timeout=STOP_MAX)

    def log(self):
        return self._log.decode(errors="replace")

    async def _read(self):
        try:
            async for line in self._process.stdout:
                self._read_line(line)
        except ValueError:
            self.wrong = self.wrong or f"the adapter wrote a line of more than {LINE_MAX // 1024} KB"
        if self._stopped is None:
            self.wrong = self.wrong or "the adapter ended before its standard input"
        self.changes.happened()

    def _read_line(self, line):
        try:
            self._take(json.loads(line))
        except Wrong as wrong:
            self.wrong = self.wrong or str(wrong)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as invalid:
            self.wrong = self.wrong or f"the adapter wrote {line[:200]!r}: {invalid!r}"
        self.changes.happened()

    async def _read_log(self):
        while chunk := await self._process.stderr.read(4_096):
            self._log = (self._log + chunk)[-4_096:]

    def _take(self, line):
        ((kind, detail),) = line.items()
        if kind == "ready":
            self.ready[detail] = self.ready.get(detail, 0) + 1
        elif kind == "alert":
            self._take_alert(detail)
        elif kind == "removed":
            key = (detail["region"], detail["epoch"], detail["seq"])
            # The service may say it more than once, and so may a client.
            if key not in self._removed:
                self._removed.add(key)
                self._told(detail["region"], [("removed", detail["seq"])])
        elif kind == "gap":
            first, last = detail["from"], detail["to"]
            if last is None:
                self._told(detail["region"], [("lost from", first)])
            elif not 0 <= last - first <= GAP_MAX:
                raise Wrong(f"told a gap from {first} to {last}")
            else:
                self._told(detail["region"], [("lost", number) for number in range(first, last + 1)])
        elif kind == "error":
            if len(self.errors) == ERRORS_MAX:
                raise Wrong(f"told more than {ERRORS_MAX} errors")
            self.errors.append(str(detail["code"])[:100])
        elif kind == "stopped":
            self._stopped = line
        else:
            raise ValueError("unknown line")

    def _take_alert(self, alert):
        key = (alert["region"], alert["epoch"], alert["seq"])
        published = self.gateway.logs.published.get(key)
        if published is None:
            raise Wrong(f"told the alert {key}, which was never published")
        for name in KEPT:
            if alert.get(name) != published[name]:
                raise Wrong(f"told {name} {alert.get(name)!r} of {key}: published was {published[name]!r}")
        if key in self._removed:
            raise Wrong(f"told the alert {key} after its removal")
        if key in self.gateway.to_everyone and alert.get("everyone") is not True:
            raise Wrong(f"told the alert {key} without the mark `everyone`")
        self._told(alert["region"], [("alert", alert["seq"])])

    def _told(self, region, items):
        self.told.setdefault(region, []).extend(items)
