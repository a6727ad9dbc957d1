"""What a path leads to: a resource, with whose it is, the rows behind it, and what who asks may do with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import quote

from hosting.dav.reach import Reach
from storage.collections.values import Collection, Kind, Stored
from storage.directory.shares import ShareRow
from storage.mail.account import Account
from storage.values import AccountId, TenantId

ROOT = "/dav/"
_SAFE = "@:!$*,;=~()"  # beside letters, digits and "-._~"; nothing that XML would want escaped
_PLAIN = re.compile(r"[A-Za-z0-9@:!$*,;=~()._-]+\Z")  # nothing to encode, as nearly all


class ResourceType(StrEnum):
    ROOT = "root"  # /dav/
    PRINCIPALS = "principals"  # /dav/principals/
    PRINCIPAL = "principal"
    CALENDAR_HOMES = "calendar-homes"  # /dav/calendars/
    ADDRESS_BOOK_HOMES = "address-book-homes"
    FILE_HOMES = "file-homes"
    CALENDAR_HOME = "calendar-home"  # /dav/calendars/<login>/
    ADDRESS_BOOK_HOME = "address-book-home"
    FILE_HOME = "file-home"
    CALENDAR = "calendar"
    INBOX = "inbox"
    OUTBOX = "outbox"
    ADDRESS_BOOK = "address-book"
    FOLDER = "folder"
    EVENT = "event"  # an object of a calendar, whatever its component
    INBOX_ITEM = "inbox-item"
    OUTBOX_ITEM = "outbox-item"
    CARD = "card"
    FILE = "file"
    NOTIFICATIONS = "notifications"  # /dav/calendars/<login>/notifications/: what sharing has to tell
    NOTIFICATION = "notification"


A_HOME = frozenset({ResourceType.CALENDAR_HOME, ResourceType.ADDRESS_BOOK_HOME, ResourceType.FILE_HOME})
OBJECTS = frozenset(
    {
        ResourceType.EVENT,
        ResourceType.INBOX_ITEM,
        ResourceType.OUTBOX_ITEM,
        ResourceType.CARD,
        ResourceType.FILE,
    }
)
SINGLE = OBJECTS | {ResourceType.NOTIFICATION}  # what is no collection
KEPT = frozenset(  # a collection that is a row
    {
        ResourceType.CALENDAR,
        ResourceType.INBOX,
        ResourceType.OUTBOX,
        ResourceType.ADDRESS_BOOK,
        ResourceType.FOLDER,
    }
)
EVERYTHING = frozenset(ResourceType)

TYPE_OF = {
    Kind.CALENDAR: ResourceType.CALENDAR,
    Kind.ADDRESS_BOOK: ResourceType.ADDRESS_BOOK,
    Kind.INBOX: ResourceType.INBOX,
    Kind.OUTBOX: ResourceType.OUTBOX,
    Kind.FOLDER: ResourceType.FOLDER,
}
OBJECT_OF = {
    Kind.CALENDAR: ResourceType.EVENT,
    Kind.ADDRESS_BOOK: ResourceType.CARD,
    Kind.INBOX: ResourceType.INBOX_ITEM,
    Kind.OUTBOX: ResourceType.OUTBOX_ITEM,
    Kind.FOLDER: ResourceType.FILE,
}
# First segment of the path below /dav/, and what stands there.
BRANCHES = {
    "calendars": (ResourceType.CALENDAR_HOMES, ResourceType.CALENDAR_HOME, (Kind.CALENDAR, Kind.INBOX, Kind.OUTBOX)),
    "addressbooks": (ResourceType.ADDRESS_BOOK_HOMES, ResourceType.ADDRESS_BOOK_HOME, (Kind.ADDRESS_BOOK,)),
    "files": (ResourceType.FILE_HOMES, ResourceType.FILE_HOME, (Kind.FOLDER,)),
}
PRINCIPALS = "principals"


@dataclass(frozen=True, slots=True)
class Person:
    """An account as a principal of its tenant (RFC 3744 §2)."""

    tenant_id: TenantId
    account_id: AccountId
    login: str = field(repr=False)  # primary address, as it stands in paths

    @property
    def segments(self) -> tuple[str, ...]:
        return (PRINCIPALS, self.login)


@dataclass(frozen=True, slots=True)
class Share:
    """A collection of somebody else's in one's own home."""

    owner: Person
    collection_id: int
    sharee_id: AccountId
    kind: Kind
    may_write: bool
    name: str = field(repr=False)  # last segment of its path in the sharee's home
    display_name: str = field(default="", repr=False)  # as the sharee calls it; empty: as its owner
    color: str = ""
    transparent: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """`account` is open as long as the request lasts, and is where `collection` lies: of a shared one its owner's."""

    type: ResourceType
    segments: tuple[str, ...] = field(repr=False)  # of its path below /dav/, decoded
    reach: Reach
    person: Person | None = None  # the principal itself, or whose home it stands in
    owner: Person | None = None  # whose data it is; differs from `person` for what is shared
    account: Account | None = field(default=None, repr=False)
    collection: Collection | None = None
    stored: Stored | None = None
    share: Share | None = None
    notice: ShareRow | None = None  # what a notification tells of
    _base: bytes = field(default=b"", repr=False, compare=False)  # of an object among many: its collection's href

    @property
    def is_collection(self) -> bool:
        """In the sense of RFC 4918 §5.2: its URL ends in a slash."""
        return self.type not in SINGLE

    @property
    def href(self) -> bytes:
        """Its path, percent-encoded: also XML as it is."""
        if self._base and self.stored is not None:
            return self._base + encoded(self.stored.name).encode("ascii")
        return href(self.segments, is_collection=self.is_collection)

    @property
    def data(self) -> Account:
        assert self.account is not None
        return self.account

    @property
    def row(self) -> Collection:
        """The collection: itself, or the one it lies in."""
        assert self.collection is not None
        return self.collection

    @property
    def object(self) -> Stored:
        assert self.stored is not None
        return self.stored

    def members(self, objects: Iterable[Stored]) -> Iterator[Resource]:
        """Objects of this collection; their hrefs are made of its own, which is made once."""
        base = self.href
        return (self.member(each, base) for each in objects)

    def member(self, stored: Stored, base: bytes = b"") -> Resource:
        """An object of this collection; `base` is the href of that, where the caller has it."""
        return Resource(
            OBJECT_OF[self.row.kind],
            (*self.segments, stored.name),
            self.reach if self.share is None or self.share.may_write else self.reach & ~Reach.WRITE_PROPERTIES,
            self.person,
            self.owner,
            self.account,
            self.collection,
            stored,
            self.share,
            _base=base,
        )

    def with_collection(self, collection: Collection) -> Resource:
        """The same after its row was read again."""
        return replace(self, collection=collection)


def href(segments: tuple[str, ...], *, is_collection: bool) -> bytes:
    """A path below /dav/, percent-encoded."""
    if not segments:
        return ROOT.encode()
    path = ROOT + "/".join(encoded(segment) for segment in segments)
    return (path + "/" if is_collection else path).encode("ascii")


def encoded(segment: str) -> str:
    """One segment, percent-encoded; nothing in it has a meaning in XML."""
    return segment if _PLAIN.match(segment) else quote(segment, safe=_SAFE)
