"""One case: its steps, and what they make of the gateway and the application."""

import asyncio
import contextlib
import dataclasses

from application import Application, Wrong, items_of, take_off, text_of
from events import EventGateway
from gateway import Changes, Gateway, error
from log import ALL

# Bound of a case in seconds, from its first handshake. The slowest wait is 15 s, for a peer that is gone.
CASE_MAX = 26

# What random moments of a window have to be: of so many, two are this far apart, as a share of the window. A client
# that draws evenly fails once in a million runs.
REPEATS, APART = 8, 0.1
# How much later a client may be than its window, on a busy machine, in seconds.
SLACK = 3

# Settings of cases over the Event API, which advises no window: clients look at the log as often as they may.
EVENT_SETTINGS = {"events": True, "checkMs": 10_000, "reconnectWithinMs": 1_000}


@dataclasses.dataclass
class Case:
    name: str
    promise: str
    where: str
    steps: list
    told: dict = dataclasses.field(default_factory=dict)
    watch: list = dataclasses.field(default_factory=lambda: ["PL"])
    # What a client must be able to do: `keepalive`, `history`, `token`, `state`.
    needs: list = dataclasses.field(default_factory=list)
    errors: list = dataclasses.field(default_factory=list)
    # Options of the adapter, whose names are those of the settings.
    settings: dict = dataclasses.field(default_factory=dict)
    http: bool = True
    # Steps before the client starts.
    before: list = dataclasses.field(default_factory=list)
    # Whether every region is ready before the first step.
    ready: bool = True
    # Begins before the others.
    slow: bool = False
    # Whether the client still works at the end. Then an alert of each region shows that nothing else was on its way.
    works: bool = True
    # Why only the WebSocket API promises this, if so.
    gateway: str = ""


class Run:
    """A case that is being run with a client, over the Event API if `events`."""

    def __init__(self, case, command, events=False):
        self.case = case
        self.changes = Changes()
        self.gateway = EventGateway(self.changes) if events else Gateway(self.changes)
        self.own_settings = case.settings | (EVENT_SETTINGS | case.settings if events else {})
        self.application = Application(command, self.gateway, self.changes)
        self.watched = [region.strip().upper() for region in case.watch]
        # What is still to be told of each region, and how much was told and compared.
        self.expected = {region: items_of(text) for region, text in case.told.items()}
        self.compared = {}
        self.waits_for = "the start"

    async def perform(self, starting):
        """Runs the case. Raises Wrong with what the client did wrong."""
        async with self.gateway as gateway:
            try:
                for step in self.case.before:
                    await self.step(step)
                settings = {"url": f"ws://{gateway.address}/prod", "regions": self.case.watch, **self.own_settings}
                self.settings = settings | ({"httpUrl": f"http://{gateway.address}"} if self.case.http else {})
                # Starting takes computing, and what follows is waiting.
                async with starting, asyncio.timeout(CASE_MAX):
                    await self.application.start(self.settings)
                    await self.wait({"attempts": 1})
                async with asyncio.timeout(CASE_MAX):
                    if self.case.ready:
                        await self.wait_for_ready({region: 1 for region in self.watched})
                    for step in self.case.steps:
                        await self.step(step)
                    await self.end()
            except TimeoutError:
                raise Wrong(f"after {CASE_MAX} s, still waiting for {self.waits_for}\n{self.state()}") from None
            except Wrong as wrong:
                raise Wrong(f"{wrong}\n{self.state()}") from None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    await self.application.kill()

    def state(self):
        """What happened, for whoever looks for the mistake."""
        sent = [message for connection in self.gateway.opened for message in connection.messages]
        lines = [f"{region}: {text_of(told)}" for region, told in self.application.told.items()] or ["nothing"]
        lines = ["told " + line for line in lines]
        lines += [f"errors: {', '.join(self.application.errors) or 'none'}"]
        lines += [f"{len(self.gateway.attempts)} handshakes, {self.gateway.requests} requests over HTTP, sent:"]
        lines += [f"  {message}"[:200] for message in sent[-6:]]
        if how := self.gateway.no_return():
            lines += [f"the gateway {how}: no handshake since"]
        log = self.application.log()
        return "\n".join([*lines, *(["its stderr:", log] if log else [])])

    # --- Waiting ------------------------------------------------------------------------------------------------------

    async def until(self, description, condition):
        """Waits for a condition. Whatever the client does wrong meanwhile ends the case."""
        self.waits_for = description

        def met():
            if wrong := next(iter([*self.gateway.violations, *filter(None, [self.application.wrong])]), None):
                raise Wrong(wrong)
            for region, told in self.application.told.items():
                take_off(region, self.expected.setdefault(region, []), told[self.compared.get(region, 0) :])
                self.compared[region] = len(told)
            return condition()

        await self.changes.until(met)

    async def wait_for_ready(self, counts):
        ready = self.application.ready
        await self.until(f"ready: {counts}", lambda: all(ready.get(region, 0) >= counts[region] for region in counts))

    async def wait(self, what):
        gateway, application = self.gateway, self.application
        ((kind, value),) = what.items()
        if kind == "told":
            region, _, text = value.partition(" ")
            items = [item[:2] for item in items_of(text)]
            condition = lambda: set(items) <= set(application.told.get(region, []))
        elif kind == "subscribed":
            regions = set(value.split())
            condition = lambda: any(regions <= connection.regions for connection in gateway.connections)
        elif kind == "left":
            condition = lambda: not any(value in connection.regions for connection in gateway.connections)
        elif kind == "ready":
            return await self.wait_for_ready(value)
        elif kind == "connections":
            condition = lambda: len(gateway.opened) >= value
        elif kind == "attempts":
            condition = lambda: len(gateway.attempts) >= value
        elif kind == "requests":
            condition = lambda: gateway.requests >= value
        elif kind == "error":
            condition = lambda: value in application.errors
        else:
            raise ValueError(f"unknown condition {what}")
        await self.until(str(what), condition)

    async def end(self):
        if self.case.works:
            for region in [name for name in self.case.told if {name, ALL} & set(self.watched)]:
                alert = self.gateway.logs.publish(region, {}, {})
                self.expected[region].append(("alert", alert["seq"], False))
                await self.gateway.push(alert)
        left = lambda: [(region, item) for region, items in self.expected.items() for item in items if not item[2]]
        try:
            await self.until("what is left to tell", lambda: not left())
        except asyncio.CancelledError:
            self.waits_for = f"{', '.join(f'{region} {text_of([item])}' for region, item in left()[:9])} to be told"
            raise
        self.waits_for = "its end"
        self.gateway.thaw()
        await self.application.stop()
        await self.until("its end", lambda: not left())
        if set(self.application.errors) != set(self.case.errors):
            raise Wrong(f"told the errors {self.application.errors}: expected {self.case.errors}")

    # --- Steps --------------------------------------------------------------------------------------------------------

    async def step(self, step):
        kind = next(iter(step))
        value = step[kind]
        await getattr(self, f"step_{kind}")(value, **{name: step[name] for name in step if name != kind})

    async def step_publish(self, value, push=None, video={}, fields={}):
        """`PL 3` publishes three alerts. They are pushed in order, or as the numbers in `push` say."""
        region, _, count = value.partition(" ")
        for _ in range(int(count or 1)):
            alert = self.gateway.logs.publish(region, video, fields)
            if push is None:
                await self.gateway.push(alert)
        for seq in push or []:
            await self.step_push(f"{region} {seq}")

    async def step_each(self, value, do):
        """Does something for each region, whose name takes the place of `*` in the values."""
        for region in value:
            for step in do:
                await self.step({key: region + text[1:] if text[:1] == "*" else text for key, text in step.items()})

    async def step_push(self, value):
        """Pushes an alert of the log, once more or late."""
        region, seq = value.split()
        await self.gateway.push(self.gateway.logs.by_region[region].entries[int(seq) - 1])

    async def step_late(self, value):
        """Pushes an alert as it was published, although it has been taken back."""
        region, seq = value.split()
        await self.gateway.push(self.gateway.logs.published[region, self.gateway.logs.epoch, int(seq)])

    async def step_everyone(self, value, times=1):
        """Publishes an alert to a region without subscribers: every connection gets it."""
        alert = self.gateway.logs.publish(value, {}, {})
        self.gateway.to_everyone.add((alert["region"], alert["epoch"], alert["seq"]))
        for _ in range(times):
            await self.gateway.push(alert, everyone=True)

    async def step_remove(self, value, push=1):
        region, seq = value.split()
        removed = self.gateway.logs.remove(region, int(seq))
        for _ in range(push):
            await self.gateway.push(removed)

    async def step_forget(self, value):
        """Alerts up to this number expire."""
        region, seq = value.split()
        self.gateway.logs.by_region[region].forgotten = int(seq)

    async def step_reset(self, value):
        self.gateway.logs.reset(value)

    async def step_unsubscribe(self, value):
        """The service loses a subscription."""
        for connection in self.gateway.connections:
            connection.regions.discard(value)

    async def step_mark_closed(self, _):
        """The service closes the connection, of which the client's side learns nothing."""
        for connection in self.gateway.connections:
            connection.marked_closed = True
            connection.regions.clear()

    async def step_cut(self, _):
        self.gateway.cut()

    async def step_close(self, value):
        await self.gateway.close(value)

    async def step_freeze(self, _):
        self.gateway.freeze()

    async def step_refuse(self, value):
        """Refuses handshakes with these statuses, one each, or with one status until `refuse: null`."""
        if isinstance(value, list):
            self.gateway.refusals += value
        else:
            self.gateway.refused = value

    async def step_hang(self, value):
        self.gateway.hanging = value

    async def step_answer(self, value):
        """The answers to the next messages: frames, texts, codes of errors, or `nothing`."""
        for answer in value:
            if isinstance(answer, dict) and "error" in answer:
                code, more = answer["error"], {name: answer[name] for name in answer if name != "error"}
                answer = error(code, None, retryable=True) | more
            self.gateway.answers.append(answer)

    async def step_history(self, value):
        """What is wrong with the next answers over HTTP: a status, `truncated`, or `garbage`."""
        self.gateway.history += value

    async def step_answers_carry(self, value):
        """Alerts that fit in an answer to a subscription."""
        self.gateway.alerts_max = value

    async def step_advise(self, value):
        self.gateway.advice |= value

    async def step_forbid(self, value):
        """Regions that are refused, with the code of the error."""
        self.gateway.forbidden |= value

    async def step_accept_tokens(self, value):
        self.gateway.accepted_tokens = value

    async def step_send(self, value):
        """Sends frames, or texts that are none, to every connection."""
        for frame in value:
            for connection in list(self.gateway.connections):
                await self.gateway.send(connection, frame)

    async def step_when(self, value, do):
        """Does something at a moment: `handshake`, `subscribing`, `subscribed` (written), `answering`, `page`."""

        async def hook():
            for step in do:
                await self.step(step)

        self.gateway.hooks[value] = hook

    async def step_tell(self, value):
        """Tells the adapter to watch, unwatch, or use another token."""
        self.watched += value.get("watch", [])
        self.watched = [region for region in self.watched if region not in value.get("unwatch", [])]
        self.application.tell(value)

    async def step_restart(self, between):
        """Stops the application, and starts it with the state that it kept."""
        await self.application.stop()
        for step in between:
            await self.step(step)
        await self.application.start(self.settings)

    async def step_wait(self, value):
        await self.wait(value)

    async def step_resumed(self, value):
        """The first message for each region on the newest connection had this position."""
        for region, seq in value.items():
            messages = self.gateway.opened[-1].messages
            since = next((sent.get("since") for sent in messages if {region, ALL} & regions_of(sent)), None)
            at = (since or {}).get(region, since if since and "epoch" in since else None)
            if (at or {}).get("seq") != seq:
                raise Wrong(f"subscribed to {region} since {at}: expected the position {seq}")

    async def step_cuts_within(self, value):
        """Cuts the connection several times: each time the client comes back at a random moment of this window."""
        now, window, delays = asyncio.get_running_loop().time, value / 1_000, []
        for turn in range(REPEATS):
            attempts, began = len(self.gateway.attempts), now()
            self.gateway.cut()
            await self.wait({"attempts": attempts + 1})
            delays.append(now() - began)
            await self.wait({"subscribed": " ".join(self.watched)})
            alert = self.gateway.logs.publish(self.watched[0], {}, {})
            await self.gateway.push(alert)
            await self.wait({"told": f"{self.watched[0]} {alert['seq']}"})
        told = ", ".join(f"{delay:.2f} s" for delay in delays)
        if max(delays) > window + SLACK:
            raise Wrong(f"came back after {told}: expected at most {window} s")
        if max(delays) - min(delays) < APART * window:
            raise Wrong(f"came back after {told}: expected random moments in a window of {window} s")

    async def step_at_most(self, value, seconds):
        """So many attempts to connect, at most, in so many seconds."""
        before = len(self.gateway.attempts)
        made = lambda: len(self.gateway.attempts) - before
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.until(f"{seconds} s", lambda: made() > value)
        if made() > value:
            raise Wrong(f"tried to connect {made()} times within {seconds} s: expected at most {value}")


def regions_of(message):
    return {str(region).strip().upper() for region in message.get("regions", [message.get("region")])}
