"""The client's view of each region's log: puts alerts in order, drops repeats, finds what is missing. Does no I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .events import Alert, Event, Frame, Gap, Position, Removed

ALL = "ALL"
# Alerts of all regions that came too early. Recovering the missing ones brings the rest.
EARLY_MAX = 1_000
# Alerts of regions that are not followed, which are remembered to drop repeats.
EVERYONE_MAX = 100
# Recoveries of a region without progress before its missing alerts count as lost.
TRIES_MAX = 5

# An epoch and a sequence number, which are compared in this order.
At = tuple[int, int]
BEGINNING: At = (0, 0)


@dataclass(slots=True)
class Entry:
    # The last alert that was told. None before the first answer.
    at: At | None = None
    # The last alert that is known to exist.
    head: At = BEGINNING
    tries: int = 0
    early: dict[At, Frame] = field(default_factory=dict)


class Log:
    """Calls `emit` with each event, when its region has the position after it. While `full()`, nothing is taken.

    Calls `late` with a region of which alerts are missing, and the number of recoveries without progress.
    """

    def __init__(self, emit: Callable[[Event], None], late: Callable[[str, int], None], full: Callable[[], bool]):
        self._emit, self._late, self._full = emit, late, full
        self._entries: dict[str, Entry] = {}
        # Alerts and removals of regions that are not followed. The oldest come first.
        self._seen: dict[tuple[object, ...], None] = {}

    def has(self, region: str) -> bool:
        return (entry := self._entries.get(region)) is not None and entry.at is not None

    def is_behind(self, region: str) -> bool:
        return (entry := self._entries.get(region)) is not None and entry.at is not None and entry.head > entry.at

    def follow(self, region: str, at: At | None = None) -> None:
        """Follows a region from a position, unless it has one. Without one, an answer will say where it begins."""
        entry = self._entries.setdefault(region, Entry())
        entry.at = entry.at or at

    def keep(self, regions: set[str]) -> None:
        """Forgets all regions except these."""
        self._entries = {region: entry for region, entry in self._entries.items() if {region, ALL} & regions}

    def positions(self, regions: list[str]) -> dict[str, Position]:
        """The known positions of regions, of every region for ALL."""
        names = sorted(self._entries) if ALL in regions else regions
        known = {name: self._entries[name].at for name in names if name in self._entries and name != ALL}
        return {name: Position(epoch=at[0], seq=at[1]) for name, at in known.items() if at}

    def admit(self, frame: Frame) -> None:
        """Takes an alert or a removal, in any order and any number of times."""
        self._take(frame)
        self._look(frame["region"])

    def give_up(self, region: str) -> None:
        """Reports the missing alerts of a region as lost, and tells those that came early."""
        if entry := self._entries.get(region):
            self._drain(region, entry)
        while entry and entry.at is not None and entry.head > entry.at and not self._full():
            epoch, seq = min([*entry.early, (entry.head[0], entry.head[1] + 1)])
            self._skip(region, entry, (epoch, seq - 1))

    def fail(self, region: str) -> None:
        """Counts a recovery that brought nothing. After several, the missing alerts are given up."""
        if entry := self._entries.get(region):
            entry.tries += 1
            if entry.tries >= TRIES_MAX:
                self.give_up(region)

    def apply(self, answer: Frame, asked: list[str], elsewhere: bool, started: Callable[[], None]) -> list[str]:
        """Takes the answer to a request for `asked`. Calls `started` once regions have a position.

        Regions that were left since they were asked for have no part in it. Returns those that it did not
        recover. Without an `elsewhere` their missing alerts are given up.
        """
        kept = {region: at for region, at in answer["positions"].items() if {region, ALL} & self._entries.keys()}
        heads: dict[str, At] = {region: (at["epoch"], at["seq"]) for region, at in kept.items()}
        # Under ALL, an unknown region is a new one.
        follows_all = self.has(ALL)
        for region, head in heads.items():
            self.follow(region, BEGINNING if follows_all else head)
        for region in self._entries if ALL in asked and ALL in self._entries else ():
            self.follow(region, BEGINNING)
        started()
        for region, entry in self._entries.items():
            self._drain(region, entry)
        for frame in [*answer.get("removed", []), *answer.get("alerts", [])]:
            self._take(frame)
        left = []
        for region, (epoch, seq) in heads.items():
            entry, refused = self._entries[region], region in answer.get("not_recovered", [])
            known = entry.at or BEGINNING
            if known[0] != epoch and (refused or known[0] < epoch) and not self._full():
                self._skip(region, entry, (epoch, 0))
                # The new log is followed from its beginning, so its alerts are recovered, not lost.
                refused = refused and elsewhere
            entry.head = max(entry.head, (epoch, seq))
            # What the application has no room for is not missing.
            if self.is_behind(region) and not self._full():
                if refused and elsewhere:
                    left.append(region)
                elif refused:
                    self.give_up(region)
                elif region in asked:
                    self.fail(region)
        for region in self._entries.keys() - left:
            self._look(region)
        return left

    def _look(self, region: str) -> None:
        if self.is_behind(region):
            self._late(region, self._entries[region].tries)

    def _take(self, frame: Frame) -> None:
        region, epoch, seq, is_removed = *place_of(frame), frame["type"] == "alert_removed"
        if ALL in self._entries:
            self.follow(region, BEGINNING if self.has(ALL) else None)
        entry = self._entries.get(region)
        if entry is None or (entry.at is None and frame.get("everyone")):
            return self._take_unordered(frame, is_removed)
        at = (epoch, seq)
        if entry.at and at <= entry.at:
            if is_removed:
                self._emit(event_of(frame))
            return
        is_next = entry.at is not None and at == (entry.at[0], entry.at[1] + 1)
        has_room = is_next or sum(len(other.early) for other in self._entries.values()) < EARLY_MAX
        # An alert does not come after its removal.
        if is_removed if at in entry.early else has_room and not self._full():
            entry.early[at] = frame
        entry.head = max(entry.head, at)
        self._drain(region, entry)

    def _take_unordered(self, frame: Frame, is_removed: bool) -> None:
        """Takes an alert of a region that is not followed: it went to everyone, and has no order."""
        told, gone = (*place_of(frame), "told"), (*place_of(frame), "removed")
        is_new = frame.get("everyone") and told not in self._seen and not self._full()
        if gone in self._seen or not (is_removed or is_new):
            return
        if len(self._seen) >= EVERYONE_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[gone if is_removed else told] = None
        self._emit(event_of(frame))

    def _drain(self, region: str, entry: Entry) -> None:
        """Tells the alerts that come next, and drops those that were told."""
        if entry.at is None:
            return
        if entry.head[0] > entry.at[0] and not self._full():
            return self._skip(region, entry, (entry.head[0], 0))
        entry.early = {at: frame for at, frame in entry.early.items() if at > entry.at}
        while (following := (entry.at[0], entry.at[1] + 1)) in entry.early and not self._full():
            entry.at, entry.tries = following, 0
            self._emit(event_of(entry.early.pop(following)))

    def _skip(self, region: str, entry: Entry, to: At) -> None:
        """Moves to a position, and reports the alerts before it as lost."""
        before, entry.at = entry.at or BEGINNING, to
        # The service went back to a log from before: what is known of the later one is void.
        if to < before:
            entry.head, entry.early = to, {}
        # Epoch 0 is before any log: nothing can be lost.
        if before[0]:
            self._emit(Gap(region, before[1] + 1, to[1] if before[0] == to[0] else None))
        self._drain(region, entry)


def place_of(frame: Frame) -> tuple[str, int, int]:
    return frame["region"], frame["epoch"], frame["seq"]


def event_of(frame: Frame) -> Alert | Removed:
    name = str(frame.get("id", ""))
    if frame["type"] == "alert_removed":
        return Removed(*place_of(frame), name)
    everyone, timestamp = frame.get("everyone") is True, str(frame.get("timestamp", ""))
    return Alert(*place_of(frame), name, frame["video"], timestamp, everyone, frame)


def is_logged(frame: Frame) -> bool:
    """Whether a frame is an alert or a removal with all that this client reads."""
    is_alert = frame.get("type") == "viral_alert" and isinstance(frame.get("video"), dict)
    numbers = isinstance(frame.get("epoch"), int) and isinstance(frame.get("seq"), int)
    return (is_alert or frame.get("type") == "alert_removed") and isinstance(frame.get("region"), str) and numbers
