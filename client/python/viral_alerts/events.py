"""What an application is told."""

from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

Frame: TypeAlias = dict[str, Any]


class Position(TypedDict):
    """A place in a region's log. `seq` counts from 1 without gaps; each new log has a later `epoch`."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert. Publishers wrote the texts in `video`: show them as text, never as markup.

    `everyone` marks one that went to every connection, because its region had no subscribers. `frame` is the whole
    alert as the service sent it.
    """

    region: str
    epoch: int
    seq: int
    id: str
    video: dict[str, Any]
    timestamp: str
    everyone: bool
    frame: Frame


@dataclass(frozen=True, slots=True)
class Removed:
    """An alert was taken back: stop showing it. May repeat, and may name an alert that you never had."""

    region: str
    epoch: int
    seq: int
    id: str


@dataclass(frozen=True, slots=True)
class Gap:
    """The alerts `first` to `last` are lost. `last` is None if the region has a new log, which follows from 1."""

    region: str
    first: int
    last: int | None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """From here on no alert of the region is left out."""

    region: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Something failed, and the client goes on. With a `region`, the service refused that for good."""

    code: str
    message: str
    region: str | None = None


Event: TypeAlias = Alert | Removed | Gap | Subscribed | Failure


class ViralAlertsError(Exception):
    """`code` is `unauthorized` if the service refused the token, or requires one. That ends the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
