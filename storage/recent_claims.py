r"""Up to which message of a mailbox some session was told \Recent, for all processes of an installation.

What arrives while several sessions have a mailbox open is \Recent in the one that is told of it first, and in no other.
The mailbox's row says so to those who select it later; but to write it takes a commit, for which nobody is made to
wait. So whoever tells claims the messages here before, in a few microseconds, and has the row written afterwards.

A table of places; mailboxes may share one, and then the last of them has it. What is not known there counts as told to
nobody: two sessions are told, which is allowed where it cannot be determined. A mailbox stands there as a hash with its
UIDVALIDITY by its account's key. So the file says nothing of anybody, nothing of an account whose key is gone, though
ids are few enough to be tried, and nothing of a mailbox that was made anew. It is worthless when nothing runs.

Standards: RFC 3501 §2.3.2.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from storage.keys.sealing import derivation
from storage.register import classes
from storage.register.values import FileClass
from storage.values import MailboxId

PLACES: Final = 1 << 12
_NAME: Final = "recent"
_MAILBOX: Final = struct.Struct(">QQ")
_PLACE: Final = struct.Struct("=8sQ")  # mailbox, UID
_hash: Final = derivation("recent claims", _MAILBOX.size)

FILES = (FileClass(f"run/{_NAME}", classes.INSTALLATION, "which newest messages clients were told of as recent"),)


class RecentClaims:
    """The table, for one process. Used by one thread, its event loop's."""

    def __init__(self, data: Path) -> None:
        self._path = data / "run" / _NAME
        self._descriptor = -1

    def claim(self, secret: bytes, mailbox_id: MailboxId, uidvalidity: int, uid: int) -> int:
        """All up to `uid` are told of now; up to which UID they were before, 0 if nobody knows. Raises nothing.

        With a `uid` of 0 it is only asked. `secret`: the account's.
        """
        name = _hash(secret, _MAILBOX.pack(mailbox_id, uidvalidity))[:8]
        offset = int.from_bytes(name, "big") % PLACES * _PLACE.size
        with suppress(OSError):  # no room, no descriptor: then it is not known
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, _PLACE.size, offset)
            try:
                place = os.pread(self._descriptor, _PLACE.size, offset)
                there, before = _PLACE.unpack(place) if len(place) == _PLACE.size else (b"", 0)
                before = before if there == name else 0
                if uid > before:
                    os.pwrite(self._descriptor, _PLACE.pack(name, uid), offset)
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _PLACE.size, offset)
            return int(before)
        return 0

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
