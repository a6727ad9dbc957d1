"""The life of one writing process, under a name that its files carry.

It holds a lock on run/incarnations/<name> as long as it lives, however it ends; so a sweep can tell rubbish of the dead
from work of the living without looking at the age of anything.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from storage.files import durable
from storage.register import classes
from storage.register.values import FileClass

FILES = (FileClass("run/incarnations/*", classes.INSTALLATION, "locks of running processes; empty"),)


class Incarnation:
    def __init__(self, data: Path) -> None:
        """A new one for this process."""
        self._directory = data / "run" / "incarnations"
        durable.make_directory(self._directory)
        self.name = secrets.token_hex(8)
        # It appears under its name only when it is locked, so nobody takes it for dead in between.
        hidden = self._directory / f".{self.name}"
        self._descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        hidden.rename(self._directory / self.name)

    def is_alive(self, name: str) -> bool:
        """Whether the writer of that name still lives; any process may ask about any."""
        try:
            descriptor = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def forget_dead(self) -> list[str]:
        """Remove the lock files of the dead, whose names nobody will ask for again, and say whose they were."""
        names = [entry.name for entry in self._directory.iterdir() if not entry.name.startswith(".")]
        dead = [name for name in names if not self.is_alive(name)]
        for name in dead:
            (self._directory / name).unlink(missing_ok=True)
        return dead

    def close(self) -> None:
        """End it; files that it left unfinished may be swept. May be called again."""
        if self._descriptor >= 0:
            (self._directory / self.name).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def __str__(self) -> str:
        return self.name
