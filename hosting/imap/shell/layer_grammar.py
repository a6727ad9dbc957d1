"""COMPRESS and UNAUTHENTICATE as commands. Standards: RFC 4978 §5, RFC 8437 §6."""

from __future__ import annotations

from dataclasses import dataclass

from hosting.imap.commands import Command
from hosting.imap.cursor import Cursor, Malformed


@dataclass(frozen=True, slots=True)
class Compress(Command):
    """COMPRESS DEFLATE."""


@dataclass(frozen=True, slots=True)
class Unauthenticate(Command): ...


def compress(cursor: Cursor) -> Compress:
    cursor.space()
    if cursor.word() != "DEFLATE":
        raise Malformed("The only compression is DEFLATE.")
    return Compress()
