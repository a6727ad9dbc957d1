"""The values of collections: what stands in a row, and what a checked body is before it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from storage.values import ModSeq

CollectionId = NewType("CollectionId", int)  # unique in the account, never used again
ObjectId = NewType("ObjectId", int)  # likewise

ENDLESS = (1 << 63) - 1  # `Times.last` of what recurs for ever


class Kind(StrEnum):
    CALENDAR = "calendar"
    ADDRESS_BOOK = "address_book"
    INBOX = "inbox"  # of scheduling (RFC 6638 §2.2), one per account
    OUTBOX = "outbox"  # likewise (RFC 6638 §2.1)
    FOLDER = "folder"  # of files, nested


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as it was read at one moment."""

    id: CollectionId
    kind: Kind
    parent_id: int  # 0: its kind's home
    name: str = field(repr=False)  # last segment of its path
    display_name: str = field(repr=False)
    description: str = field(repr=False)
    color: str  # as its client wrote it; empty: none
    position: int | None
    timezone: str = field(repr=False)  # iCalendar with one VTIMEZONE; empty: none
    components: tuple[str, ...]  # empty: all of its kind
    transparent: bool  # does not count as busy
    source: str  # "": its owner's; feed, birthdays: the server writes
    highest_modseq: ModSeq
    gone_horizon: int  # of what went up to this modseq nobody knows the names any more
    objects: int
    bytes: int
    created: int  # Unix seconds
    modified: int

    @property
    def is_read_only(self) -> bool:
        """Whether the server writes it and its owner only reads."""
        return bool(self.source)


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was read at one moment, without its octets."""

    collection_id: CollectionId
    object_id: ObjectId
    name: str = field(repr=False)  # last segment of its path
    uid: str | None = field(repr=False)  # None: a file
    component: str  # VEVENT, VTODO, VJOURNAL, VAVAILABILITY, VCARD; empty: a file
    etag: str  # with its quotes
    schedule_tag: str | None  # with its quotes; None: no scheduling object
    content_type: str
    size: int  # octets
    modseq: ModSeq
    created: int  # Unix seconds
    modified: int


@dataclass(frozen=True, slots=True)
class Times:
    """When a calendar object takes place, as table `object_time` keeps it. Unix seconds; without a zone as if UTC."""

    first: int  # nothing of it before
    last: int  # nothing of it from here on; ENDLESS: it has no end
    floating: bool  # some of its times depend on the zone of who asks
    known_until: int  # `instances` holds all that begin before
    instances: bytes | None = field(
        default=None, repr=False
    )  # see storage.icalendar.instances; None: one, first to last


@dataclass(frozen=True, slots=True)
class Content:
    """A body that was checked and may be stored: its client's octets, and what is known of them."""

    data: bytes = field(repr=False)
    content_type: str
    uid: str | None = field(default=None, repr=False)
    component: str = ""
    times: Times | None = None
    is_scheduling: bool = False  # it has an ORGANIZER: changes of it concern others (RFC 6638 §3.1)


def file_content(data: bytes, content_type: str) -> Content:
    """The body of a file in a folder: anything."""
    return Content(data, content_type or "application/octet-stream")


@dataclass(frozen=True, slots=True)
class NewCollection:
    """A collection to be made; `properties` are dead ones that it has from the beginning (RFC 5689, MKCALENDAR)."""

    kind: Kind
    name: str = field(repr=False)
    parent_id: int = 0  # 0: its kind's home
    display_name: str = field(default="", repr=False)
    description: str = field(default="", repr=False)
    color: str = ""
    position: int | None = None
    timezone: str = field(default="", repr=False)
    components: tuple[str, ...] = ()
    transparent: bool = False
    source: str = ""
    properties: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a PUT, COPY or MOVE of one object."""

    stored: Stored
    created: bool  # nothing was there under its name


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a COPY or MOVE of a collection."""

    collection: Collection
    created: bool  # nothing was there under its name


@dataclass(frozen=True, slots=True)
class Changes:
    """What a sync-collection report tells (RFC 6578 §3.2); `storage.collections.tokens` makes its token."""

    changed: Sequence[Stored]  # in the order of their modseqs
    gone: Sequence[str] = field(repr=False)  # names
    token_modseq: ModSeq
    begun: int  # not 0: a first listing goes on; it began when the collection was here
    more: bool  # the rest comes when asked again with the new token


@dataclass(frozen=True, slots=True)
class CollectionLimits:
    """What an account may have at most, beside its quota."""

    collections: int = 1_000
    depth: int = 20  # folders in folders
    objects: int = 100_000  # of one collection
    copied: int = 10_000  # objects and folders that one COPY may make
    properties: int = 100  # dead ones of one resource
    property_size: int = 64 * 1024
    locks: int = 1_000
