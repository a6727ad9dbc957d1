"""Every command as a frozen value: what `grammar` makes of a frame and the command families act upon.

Those that search are in `search_commands`. Mailbox names are canonical str (decoded, NFC, "INBOX" in capitals); numbers
are checked; nothing here knows octets.
Standards: RFC 9051 §6, and the extension named beside a command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

STAR = 0  # "*" in a sequence set


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Numbers or UIDs as the client wrote them; `saved` is "$" (RFC 5182)."""

    ranges: tuple[tuple[int, int], ...] = ()
    saved: bool = False


@dataclass(frozen=True, slots=True)
class Flags:
    """A flag list: system flags as bits, keywords by name."""

    system: int = 0
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """Any command."""


@dataclass(frozen=True, slots=True)
class Capability(Command): ...


@dataclass(frozen=True, slots=True)
class Noop(Command): ...


@dataclass(frozen=True, slots=True)
class Logout(Command): ...


@dataclass(frozen=True, slots=True)
class Identify(Command):
    """ID (RFC 2971): how the client calls itself. Its other fields are read past; nobody may rely on any."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class StartTls(Command): ...


@dataclass(frozen=True, slots=True)
class Login(Command):
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate(Command):
    mechanism: str
    initial: bytes | None = field(default=None, repr=False)  # RFC 4959; still base64


@dataclass(frozen=True, slots=True)
class Enable(Command):
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Namespace(Command): ...


@dataclass(frozen=True, slots=True)
class Resync:
    """The QRESYNC parameter of SELECT (RFC 7162 §3.2.5)."""

    uidvalidity: int
    modseq: int
    known_uids: SequenceSet | None = None
    sample: tuple[SequenceSet, SequenceSet] | None = None  # sequence numbers and their UIDs


@dataclass(frozen=True, slots=True)
class Select(Command):
    mailbox: str
    read_only: bool = False
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create(Command):
    mailbox: str
    special_use: tuple[str, ...] = ()  # RFC 6154 §3


@dataclass(frozen=True, slots=True)
class Delete(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename(Command):
    mailbox: str
    new: str


@dataclass(frozen=True, slots=True)
class Subscribe(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class Unsubscribe(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class ListMailboxes(Command):
    """LIST with RFC 5258's options, RFC 5819's and RFC 6154's."""

    reference: str
    patterns: tuple[str, ...]
    only: frozenset[str] = frozenset()  # SUBSCRIBED, REMOTE, RECURSIVEMATCH, SPECIAL-USE
    returned: frozenset[str] = frozenset()  # SUBSCRIBED, CHILDREN, SPECIAL-USE
    status: tuple[str, ...] = ()
    extended: bool = False
    metadata: tuple[str, ...] = ()  # entries (RFC 9590)


@dataclass(frozen=True, slots=True)
class ListSubscribed(Command):
    """LSUB (RFC 3501 §6.3.9)."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Status(Command):
    mailbox: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Idle(Command): ...


@dataclass(frozen=True, slots=True)
class GetQuota(Command):
    root: str


@dataclass(frozen=True, slots=True)
class GetQuotaRoot(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota(Command):
    root: str


@dataclass(frozen=True, slots=True)
class Check(Command): ...


@dataclass(frozen=True, slots=True)
class Close(Command): ...


@dataclass(frozen=True, slots=True)
class Unselect(Command): ...


@dataclass(frozen=True, slots=True)
class Expunge(Command):
    uids: SequenceSet | None = None  # UID EXPUNGE (RFC 4315)


SectionText = Literal["", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"]


@dataclass(frozen=True, slots=True)
class Section:
    """BODY[…] or BINARY[…] (RFC 9051 §6.4.5, RFC 3516)."""

    part: tuple[int, ...] = ()
    text: SectionText = ""
    fields: tuple[bytes, ...] = ()  # as the client wrote them
    partial: tuple[int, int] | None = None  # first octet, length


FetchName = Literal[
    "UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "MODSEQ", "EMAILID", "THREADID",
    "SECTION", "RFC822", "RFC822.HEADER", "RFC822.TEXT", "BINARY", "BINARY.SIZE", "SAVEDATE", "PREVIEW",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FetchItem:
    name: FetchName
    section: Section | None = None
    peek: bool = True


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    numbers: SequenceSet
    items: tuple[FetchItem, ...]
    by_uid: bool
    changed_since: int | None = None  # RFC 7162 §3.1.4
    vanished: bool = False
    partial: tuple[int, int] | None = None  # RFC 9394 §3.3


@dataclass(frozen=True, slots=True)
class Store(Command):
    numbers: SequenceSet
    how: Literal["replace", "add", "remove"]
    flags: Flags
    silent: bool
    by_uid: bool
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy(Command):
    numbers: SequenceSet
    mailbox: str
    by_uid: bool
    move: bool = False  # RFC 6851
