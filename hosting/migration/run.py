"""One run of a move, as its folders share it: what was asked for, what the other server shows, where the mail comes.

Raises: Stopped, when nothing more can be done in this run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date

from hosting.migration.answers import Listed, Namespaces
from hosting.migration.folders import Choice, Planned
from hosting.migration.report import Progress, Report, Tell
from storage.mail.account import Account
from storage.mail.moving import Moving


class Stopped(Exception):  # noqa: N818 - how a run ends
    """Nothing more can be done in this run. `said` is for people."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


@dataclass(frozen=True, slots=True)
class Orders:
    """What was asked for."""

    since: date | None = None
    is_dry: bool = False
    delete_gone: bool = False
    is_final: bool = False
    choice: Choice = field(default_factory=Choice)


@dataclass(slots=True)
class Attempts:
    """What is remembered of a folder while its connection is made anew."""

    doubts: Counter[int] = field(default_factory=Counter)
    skipped: dict[int, str] = field(default_factory=dict)
    stored: int = 0  # messages, of all folders: progress


@dataclass(frozen=True, slots=True)
class Shown:
    """What the other server shows."""

    folders: Sequence[Listed]
    namespaces: Namespaces | None

    def has(self, key: str) -> bool:
        return any(key_of(each) == key for each in self.folders)


def key_of(listed: Listed) -> str:
    """The name of a folder as it is kept: every octet as a character."""
    return listed.raw.decode("latin-1")


@dataclass(frozen=True, slots=True)
class Destination:
    """The account that mail comes into, and who is told of it."""

    account: Account
    moving: Moving
    report: Report  # of all folders
    check: Callable[[], None]  # raises what forbids that anything is stored
    tell: Tell | None

    def say(self, planned: Planned, done: int, total: int) -> None:
        """How many messages of a folder are dealt with."""
        if self.tell is not None:
            self.tell(Progress(planned.listed.name, done, total, self.report.total("octets")))
