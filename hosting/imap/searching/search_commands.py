"""SEARCH, SORT, THREAD and ESEARCH as frozen values: the commands, and what they look for as a tree of keys.

Standards: RFC 9051 §6.4.4, and the extension named beside a command or a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hosting.imap.commands import Command, FetchItem, SequenceSet


@dataclass(frozen=True, slots=True)
class Key:
    """A node of a search (RFC 9051 §6.4.4)."""


@dataclass(frozen=True, slots=True)
class AllKeys(Key):
    """Every one of them; with none, every message."""

    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class EitherKey(Key):
    left: Key
    right: Key


@dataclass(frozen=True, slots=True)
class NotKey(Key):
    key: Key


@dataclass(frozen=True, slots=True)
class FlagKey(Key):
    bit: int
    is_set: bool


@dataclass(frozen=True, slots=True)
class KeywordKey(Key):
    name: str
    is_set: bool


@dataclass(frozen=True, slots=True)
class RecentKey(Key):
    """RECENT, OLD and NEW of RFC 3501."""

    kind: Literal["RECENT", "OLD", "NEW"]


@dataclass(frozen=True, slots=True)
class NumbersKey(Key):
    numbers: SequenceSet
    by_uid: bool


@dataclass(frozen=True, slots=True)
class DateKey(Key):
    """`day` is days since 1 January 1970; `sent`: the Date field instead of the internal date."""

    kind: Literal["BEFORE", "ON", "SINCE"]
    day: int
    sent: bool


@dataclass(frozen=True, slots=True)
class SavedKey(Key):
    """SAVEDBEFORE, SAVEDON, SAVEDSINCE (RFC 8514 §4.3)."""

    kind: Literal["BEFORE", "ON", "SINCE"]
    day: int


@dataclass(frozen=True, slots=True)
class WithinKey(Key):
    """YOUNGER and OLDER (RFC 5032)."""

    younger: bool
    seconds: int


@dataclass(frozen=True, slots=True)
class SizeKey(Key):
    larger: bool
    size: int


@dataclass(frozen=True, slots=True)
class TextKey(Key):
    """A substring of `field`: a header field's name in lower case, or "text", "body"."""

    field: str
    needle: str
    header: bool = False  # HEADER: any field; else SUBJECT, FROM, TO, CC, BCC, TEXT, BODY


@dataclass(frozen=True, slots=True)
class ModSeqKey(Key):
    modseq: int


@dataclass(frozen=True, slots=True)
class ObjectKey(Key):
    """EMAILID and THREADID (RFC 8474)."""

    thread: bool
    id: str


@dataclass(frozen=True, slots=True)
class FuzzyKey(Key):
    """FUZZY (RFC 6203): what comes near to matching counts, too."""

    key: Key


@dataclass(frozen=True, slots=True)
class FilterKey(Key):
    """FILTER (RFC 5466): a search that is kept under a name."""

    name: str


Partial = tuple[int, int]  # of a list of results, as the client wrote it: from 1, or from -1 backwards (RFC 9394)


@dataclass(frozen=True, slots=True)
class Search(Command):
    key: Key
    by_uid: bool
    returned: frozenset[str] | None = None  # MIN MAX ALL COUNT SAVE PARTIAL UPDATE CONTEXT RELEVANCY; None: no RETURN
    charset_known: bool = True
    partial: Partial | None = None
    items: tuple[FetchItem, ...] = ()  # of messages that join what is updated (RFC 5465 §7)


@dataclass(frozen=True, slots=True)
class Sort(Command):
    """SORT (RFC 5256, RFC 5267). `order` holds (key, reverse)."""

    order: tuple[tuple[str, bool], ...]
    key: Key
    by_uid: bool
    charset_known: bool = True
    returned: frozenset[str] | None = None
    partial: Partial | None = None
    items: tuple[FetchItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Thread(Command):
    algorithm: Literal["ORDEREDSUBJECT", "REFERENCES", "REFS"]
    key: Key
    by_uid: bool
    charset_known: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """Mailboxes that ESEARCH looks through (RFC 7377 §2.2)."""

    kind: Literal["SELECTED", "INBOXES", "PERSONAL", "SUBSCRIBED", "SUBTREE", "SUBTREE-ONE", "MAILBOXES"]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MultiSearch(Command):
    """ESEARCH (RFC 7377); `search` is by UID."""

    sources: tuple[Source, ...]
    search: Search


@dataclass(frozen=True, slots=True)
class CancelUpdate(Command):
    """CANCELUPDATE (RFC 5267 §4.3.5)."""

    tags: tuple[bytes, ...]
