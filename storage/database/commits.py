"""Whether anybody has committed to an account's database: a table of the installation's that every process maps.

Whoever has committed writes a number that was never used before into the account's place. Who keeps what he read looks
there first, and asks the database only where he finds another number: a look into memory instead of the two system
calls and 6 microseconds of `PRAGMA data_version`, before each command of each session.

Nothing is missed. The number is written after the commit and before anybody is told of it; who asks reads the place
first and the database afterwards, so what is committed in between is seen the next time. What is asked within a
snapshot is not kept: there the database says what the snapshot is of, however much was committed and marked meanwhile.
Accounts so many numbers apart share a place, and ask in vain now and then. A process that dies between a commit and its
number hides that commit for a second, and so does one that cannot map the table: nobody relies on a place for longer
than `TRUSTED`.

The file says nothing of anybody, and is worthless when nothing runs. Its pages are taken when it is made, so that a
full disk ends no process (SIGBUS); it appears under its name when it is whole. What was killed before leaves a file
under another name, which the next process removes.
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

from storage.register import classes
from storage.register.values import FileClass
from storage.values import AccountId

TRUSTED: Final = 1.0  # seconds
PLACES: Final = 1 << 14
_SIZE: Final = PLACES * 8  # octets; a number is written and read whole
_NAME: Final = "commits"
_MADE_WITHIN: Final = 60.0  # seconds after which a file that has not got the table's name will not get it any more

FILES = (FileClass(f"run/{_NAME}*", classes.INSTALLATION, "whether somebody has committed to an account's database"),)


class Commits:
    """The table, for one process. Any thread may use it."""

    __slots__ = ("_numbers", "_path", "places")

    def __init__(self, data: Path, now: float | None = None) -> None:
        """`now`: what is older than that by much, and was never whole, is removed."""
        self._path = data / "run" / _NAME
        if now is not None:
            self._sweep(now)
        self._numbers = count(secrets.randbits(62))  # each process from a place of its own: no number comes twice
        self.places = self._mapped()

    def of(self, account_id: AccountId) -> Place:
        return Place(self, account_id % PLACES)

    def mark(self, place: int) -> None:
        places = self.places
        if places is None:
            places = self.places = self._mapped()
        if places is not None:
            places[place] = next(self._numbers)

    def _mapped(self) -> memoryview | None:
        """None: it cannot be had now (no room, no descriptor); who commits must not fail for it."""
        try:
            descriptor = self._descriptor()
        except OSError:
            return None
        try:
            return memoryview(mmap.mmap(descriptor, _SIZE)).cast("Q")
        except (OSError, ValueError):
            return None
        finally:
            os.close(descriptor)

    def _descriptor(self) -> int:
        while True:
            try:
                return os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                self._make()

    def _make(self) -> None:
        hidden = self._path.with_name(f"{_NAME}.{secrets.token_hex(8)}")
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _SIZE)
            os.link(hidden, self._path)
        except FileExistsError:  # another process was quicker, and all have to have the same
            pass
        finally:
            os.close(descriptor)
            hidden.unlink()

    def _sweep(self, now: float) -> None:
        for left in self._path.parent.glob(f"{_NAME}.*"):
            with suppress(OSError):
                if now - left.stat().st_mtime > _MADE_WITHIN:
                    left.unlink()


class Place:
    """Of one account, and what was known under its number. For one `Database`."""

    __slots__ = ("_commits", "_known", "_place")

    def __init__(self, commits: Commits, place: int) -> None:
        self._commits = commits
        self._place = place
        self._known: tuple[int | None, float, int] = (None, 0.0, 0)  # under which number, until when, what

    def mark(self) -> None:
        """Somebody has committed. Raises nothing."""
        self._commits.mark(self._place)

    def version(self, now: float, ask: Callable[[], tuple[int, bool]]) -> int:
        """What `ask` said, as long as nobody has committed since, and whether that may be kept. `now`: monotonic."""
        places, (number, until, version) = self._commits.places, self._known
        current = None if places is None else places[self._place]  # before the database is asked
        if current is None or current != number or now >= until:
            version, is_newest = ask()
            if is_newest:
                self._known = current, now + TRUSTED, version
        return version
