"""APPEND and REPLACE as frozen values: the messages as the client wrote them down, URLs not yet looked at.

Standards: RFC 9051 §6.3.12, RFC 3502 (several messages), RFC 3516 §4.4 (literal8), RFC 4469 §3 (CATENATE), RFC 8508.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hosting.imap.commands import Command, Flags


@dataclass(frozen=True, slots=True)
class Text:
    """The octets of a literal; `binary`: of a literal8, which may hold what lines of text cannot."""

    data: bytes = field(repr=False)
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Url:
    """A part of the new message that is stored here already, by its URL as the client wrote it."""

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Upload:
    """One new message: a literal, or what CATENATE puts together."""

    parts: tuple[Text | Url, ...]
    flags: Flags
    internal_date: int | None = None
    internal_zone: int = 0  # minutes east of UTC
    catenated: bool = False


@dataclass(frozen=True, slots=True)
class Append(Command):
    mailbox: str
    messages: tuple[Upload, ...]


@dataclass(frozen=True, slots=True)
class Replace(Command):
    """REPLACE and UID REPLACE; `number` may be `STAR`."""

    number: int
    mailbox: str
    message: Upload
    by_uid: bool
