"""What goes into and comes out of the operations on messages; re-exported by `storage.mail.messages`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from storage.mail.content import Content
from storage.values import MessageId, ModSeq, Uid, UidSet

How = Literal["replace", "add", "remove"]


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored; its lines end in CRLF. `content` is what `content_of` read of it, if somebody did."""

    data: bytes
    flags: int = 0
    keywords: Sequence[str] = ()
    internal_date: int | None = None  # None: now
    prefix: bytes = b""
    delivery_id: str | None = None  # what is there under it is not stored again
    content: Content | None = None
    overrun: bool = False  # kept though it exceeds the quota, as long as some of that is left
    saved: int | None = None  # SAVEDATE; None: now
    internal_zone: int = 0  # minutes east of UTC in which the internal date is told and searched for


@dataclass(frozen=True, slots=True)
class Appended:
    """APPENDUID (RFC 9051 §7.1), and the message's row."""

    uid: Uid
    uidvalidity: int
    modseq: ModSeq
    message_id: MessageId


@dataclass(frozen=True, slots=True)
class Stored:
    """What a STORE did: the messages that failed UNCHANGEDSINCE, and those whose flags are different now."""

    modified: UidSet
    changed: list[tuple[int, int, int]]  # uid, flags, modseq
    modseq: int  # of the last transaction; 0 if nothing changed


@dataclass(frozen=True, slots=True)
class Copied:
    """COPYUID (RFC 9051 §7.1): source and target UIDs in ascending order."""

    uidvalidity: int
    pairs: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Expunged:
    """What was removed, and the modseq of the last transaction (0 if nothing was)."""

    uids: list[int]
    modseq: int
