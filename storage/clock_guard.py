"""Keeps a wrong wall clock from destroying data: whatever removes by time asks `ClockGuard.check` first.

DATA/clock holds the last time that was believed, with the boot of the machine and the seconds since it. A wall clock
is believed unless it is behind what that time and the seconds that have passed add up to, or more than 24 hours ahead
of it. Within one boot the comparison goes back to that boot's first time, so that many small steps are a large one.
After another boot nobody knows how long the machine was off: then it may be up to 24 hours. What is not believed stops
all that destroys until a person says that the time is right (`cleanmail clock confirm`); so does a file that is
missing or damaged, since nothing vouches for the time then.

`check` writes the file at most once a minute; it is durable when it returns. Any number of processes may use it.

Raises: Unavailable (the clock is not believed); StorageFull from `confirm`.
"""

from __future__ import annotations

import json
import logging
import zlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from storage.clock import Clock
from storage.errors import Unavailable
from storage.files import durable
from storage.register import classes
from storage.register.values import FileClass

_log = logging.getLogger("cleanmail.storage")

FILE = "clock"  # in the data directory

AHEAD = 86_400.0  # seconds that the wall clock may be ahead of what is expected
BEHIND = 120.0  # seconds that it may be behind: clocks are set right by small steps
NOTED_EVERY = 60.0  # seconds of boot time between two writes

_FORMAT = 1
_SIZE_MAX = 4096


FILES = (FileClass(FILE, classes.INSTALLATION, "the last time that was believed"),)


class Doubt(StrEnum):
    """Why a clock is not believed."""

    MISSING = "missing"
    DAMAGED = "damaged"
    BEHIND = "behind"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class Noted:
    """A time that was believed."""

    wall: float  # Unix seconds
    boot: str
    boottime: float  # seconds since that boot
    first_wall: float  # the first time of the same boot that was believed
    first_boottime: float

    def pack(self) -> bytes:
        values = [_FORMAT, self.wall, self.boot, self.boottime, self.first_wall, self.first_boottime]
        return json.dumps([*values, _check_sum(values)]).encode() + b"\n"

    @classmethod
    def unpack(cls, data: bytes) -> Noted:
        """Raises ValueError."""
        values: Any = json.loads(data)
        if not isinstance(values, list) or len(values) != 7 or values[-1] != _check_sum(values[:-1]):
            raise ValueError
        if values[0] != _FORMAT:
            raise ValueError
        return cls(float(values[1]), str(values[2]), float(values[3]), float(values[4]), float(values[5]))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clock shows, and what it should."""

    now: float  # the wall clock
    last: float | None  # the last time that was believed; None: nothing vouches for any
    expected: float | None  # at least that
    doubt: Doubt | None  # None: it is believed

    @property
    def sentence(self) -> str:
        match self.doubt:
            case None:
                return "The clock is believed."
            case Doubt.MISSING:
                return "The last known time of this installation is missing, so nothing vouches for the clock."
            case Doubt.DAMAGED:
                return "The last known time of this installation is damaged, so nothing vouches for the clock."
            case Doubt.BEHIND:
                return f"The clock is {_span(self._off)} behind what it should show."
            case Doubt.AHEAD:
                return f"The clock is {_span(self._off)} ahead of what it should show."

    @property
    def _off(self) -> float:
        return abs(self.now - (self.expected or self.now))


class ClockGuard:
    def __init__(self, data: Path, clock: Clock) -> None:
        self._path = data / FILE
        self._clock = clock

    @classmethod
    def begin(cls, data: Path, clock: Clock) -> None:
        """The first time of a new installation; one that is noted already stays."""
        guard = cls(data, clock)
        if not guard._path.exists():
            guard.confirm()

    def check(self) -> int:
        """The time, if the clock is believed, which is noted then. Raises Unavailable if it is not.

        Whoever removes by time goes by what this returns: the clock may jump a moment later.
        Where the disk takes nothing the time of before stays: what is removed by time gives room.
        """
        noted, reading = self._look()
        if reading.doubt is not None:
            raise Unavailable(
                f"{reading.sentence} Nothing is removed by time until somebody runs: cleanmail clock confirm",
                detail=f"clock {reading.doubt}",
            )
        assert noted is not None
        boot, boottime = self._clock.boot(), self._clock.boottime()
        following = None
        if noted.boot != boot:
            following = Noted(reading.now, boot, boottime, reading.now, boottime)
        elif boottime - noted.boottime >= NOTED_EVERY:
            following = Noted(reading.now, boot, boottime, noted.first_wall, noted.first_boottime)
        if following is not None:
            try:
                self._write(following)
            except Unavailable as error:
                _log.error("the time was not noted: %s", error.detail or error.public)
        return int(reading.now)

    def reading(self) -> Reading:
        """Changes nothing."""
        return self._look()[1]

    def confirm(self) -> Reading:
        """A person says that the wall clock is right; what was there before is returned."""
        before = self.reading()
        now, boottime = self._clock.precise(), self._clock.boottime()
        self._write(Noted(now, self._clock.boot(), boottime, now, boottime))
        return before

    def _look(self) -> tuple[Noted | None, Reading]:
        now = self._clock.precise()
        try:
            with self._path.open("rb") as file:
                noted = Noted.unpack(file.read(_SIZE_MAX))
        except FileNotFoundError:
            return None, Reading(now, None, None, Doubt.MISSING)
        except (OSError, ValueError, TypeError, RecursionError):
            return None, Reading(now, None, None, Doubt.DAMAGED)
        boottime = self._clock.boottime()
        if noted.boot == self._clock.boot():
            expected = noted.first_wall + boottime - noted.first_boottime
            behind = now < expected - BEHIND
        else:
            # Another boot: the machine was off for an unknown time, but it runs for so long at least.
            expected = noted.wall + boottime
            behind = now < noted.wall - BEHIND
        doubt = Doubt.BEHIND if behind else Doubt.AHEAD if now > expected + AHEAD else None
        return noted, Reading(now, noted.wall, expected, doubt)

    def _write(self, noted: Noted) -> None:
        durable.write_file(self._path, noted.pack())


def _check_sum(values: list[Any]) -> int:
    return zlib.crc32(json.dumps(values).encode())


def _span(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.0f} hours"
    return f"{max(seconds, 1) / 60:.0f} minutes"
