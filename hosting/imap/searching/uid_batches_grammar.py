"""UIDBATCHES as a command. Standards: RFC 10022 §3.1, §4."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hosting.imap.commands import Command
from hosting.imap.cursor import Cursor, Malformed
from storage.values import UID_MAX

_ARGUMENTS: Final = re.compile(rb" ([1-9]\d{0,9})(?: ([1-9]\d{0,9}):([1-9]\d{0,9}))?")


@dataclass(frozen=True, slots=True)
class UidBatches(Command):
    """UIDs that part the mailbox into batches of `size` messages; without `wanted` all of them.

    `wanted` are the first and last batch, counted from 1 at the newest messages.
    """

    size: int
    wanted: tuple[int, int] | None = None


def uid_batches(cursor: Cursor) -> UidBatches:
    match = _ARGUMENTS.match(cursor.text, cursor.at)
    if match is None:
        raise Malformed("Expected the size of a batch, and perhaps a range of batches.")
    cursor.at = match.end()
    size, *wanted = (int(number) for number in match.groups() if number)
    if max(size, *wanted, 0) > UID_MAX:
        raise Malformed("The number is too large.")
    if not wanted:
        return UidBatches(size)
    first, last = wanted
    if first > last:  # RFC 10022 §3.1.5
        raise Malformed("[CLIENTBUG] A range of batches goes upwards.")
    return UidBatches(size, (first, last))
