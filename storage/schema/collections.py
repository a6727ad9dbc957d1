"""Tables of account.db beside mail: collections (calendars, address books, folders of files) and the objects in them.

An object's bytes are what its client sent. `object` is narrow: a client lists names and ETags of 10,000 objects in one
go; content stands in `object_data`, and what time-range queries need of a calendar object in `object_time`. A
collection's modseq rises by one with each transaction that changes it, as a mailbox's does (RFC 6578 tokens are made
of it).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text

from storage.register import classes
from storage.schema import personal, technical
from storage.schema.account import metadata


def _account() -> Column[int]:
    return Column("account_id", BigInteger, primary_key=True, autoincrement=False)


collection = Table(
    "collection",
    metadata,
    _account(),
    Column("collection_id", BigInteger, primary_key=True, autoincrement=False),  # counter "collection_id", from 1
    Column("kind", Text, nullable=False),  # storage.collections.values.Kind
    # 0: its kind's home; else a collection of kind folder; -1: deleted, emptied in the background.
    Column("parent_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False, info=personal("user", "last segment of its path")),
    Column("display_name", Text, nullable=False, info=personal("user", "shown by clients")),
    Column("description", Text, nullable=False, info=personal("user", "shown by clients")),
    Column("color", Text, nullable=False),  # as the client wrote it, e.g. #FF2968FF; empty: none
    Column("position", Integer, nullable=True),  # calendar-order
    Column("timezone", Text, nullable=False),  # iCalendar with one VTIMEZONE (RFC 4791 §5.2.2); empty: none
    Column("components", Text, nullable=False),  # space-separated, e.g. "VEVENT VTODO"; empty: all of its kind
    Column("transparent", Boolean, nullable=False),  # does not count as busy (RFC 6638 §9.1)
    Column("source", Text, nullable=False),  # "" its owner's; feed, birthdays: the server writes, its owner reads
    Column("highest_modseq", BigInteger, nullable=False),
    Column("gone_horizon", BigInteger, nullable=False),  # tombstones at or below this modseq are gone
    Column("objects", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),  # Unix seconds
    Column("modified", BigInteger, nullable=False),
    info=technical("calendars, address books, scheduling boxes and folders of files", of=classes.COLLECTIONS),
    sqlite_with_rowid=False,
)
Index(
    "collection_by_name",
    collection.c.account_id,
    collection.c.kind,
    collection.c.parent_id,
    collection.c.name,
)

object_ = Table(
    "object",
    metadata,
    _account(),
    Column("collection_id", BigInteger, primary_key=True, autoincrement=False),
    Column("object_id", BigInteger, primary_key=True, autoincrement=False),  # counter "object_id"
    Column("name", Text, nullable=False, info=personal("user", "last segment of its path")),
    Column("uid", Text, nullable=True, info=personal("user", "UID of iCalendar and vCard")),  # None: a file
    Column("component", Text, nullable=False),  # VEVENT, VTODO, VJOURNAL, VAVAILABILITY, VCARD; empty: a file
    Column("etag", Text, nullable=False),  # with its quotes; strong, of the octets
    Column("schedule_tag", Text, nullable=True),  # RFC 6638 §3.2.10; None: no scheduling object
    Column("content_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),  # octets as the client sent them
    Column("modseq", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("modified", BigInteger, nullable=False),
    info=technical("events, tasks, notes, cards and files", of=classes.COLLECTIONS),
    sqlite_with_rowid=False,
)
Index("object_by_name", object_.c.account_id, object_.c.collection_id, object_.c.name, unique=True)
Index("object_by_modseq", object_.c.account_id, object_.c.collection_id, object_.c.modseq)
# For statements that it covers: for others SQLite, which thinks that an account has ten rows, reads all rows instead.
Index("object_by_uid", object_.c.account_id, object_.c.uid, object_.c.collection_id)

object_data = Table(
    "object_data",
    metadata,
    _account(),
    Column("object_id", BigInteger, primary_key=True, autoincrement=False),
    # zstd of the octets; None: they are in `file`, below objects/, in the format of message files.
    Column("data", LargeBinary, nullable=True, info=personal("user", "content", sealed=True)),
    Column("file", Text, nullable=True),  # copies share one
    info=technical("the octets of an object", of=classes.COLLECTIONS) | {"rowid": "object_id"},
)
Index(
    "object_data_by_file",
    object_data.c.account_id,
    object_data.c.file,
    sqlite_where=object_data.c.file.is_not(None),
)

# What a time-range query asks (RFC 4791 §9.9). Times are Unix seconds; of an object without a zone as if it were UTC.
object_time = Table(
    "object_time",
    metadata,
    _account(),
    Column("collection_id", BigInteger, primary_key=True, autoincrement=False),
    Column("object_id", BigInteger, primary_key=True, autoincrement=False),
    Column("first", BigInteger, nullable=False),  # nothing of it before
    Column("last", BigInteger, nullable=False),  # nothing of it from here on; the largest integer: it has no end
    Column("floating", Boolean, nullable=False),  # some of its times depend on the zone of who asks
    Column("known_until", BigInteger, nullable=False),  # `instances` holds all that begin before
    # Packed (start, end) of its instances in ascending order (storage.icalendar.instances); None: one, first to last.
    Column("instances", LargeBinary, nullable=True, info=personal("user", "when it takes place", sealed=True)),
    info=technical("when a calendar object takes place", of=classes.COLLECTIONS),
    sqlite_with_rowid=False,
)
Index(
    "object_time_by_last",
    object_time.c.account_id,
    object_time.c.collection_id,
    object_time.c.last,
    object_time.c.first,
)

object_gone = Table(
    "object_gone",
    metadata,
    _account(),
    Column("collection_id", BigInteger, primary_key=True, autoincrement=False),
    Column("modseq", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True, info=personal("user", "last segment of its path")),
    Column("gone", BigInteger, nullable=False),  # Unix seconds
    info=technical("tombstones for sync-collection (RFC 6578)", of=classes.COLLECTIONS),
    sqlite_with_rowid=False,
)

# Dead properties, and live ones that nobody here reads but clients (RFC 4918 §15).
property_ = Table(
    "property",
    metadata,
    _account(),
    # 0: of a home, or of the principal; then object_id says which (storage.collections.properties).
    Column("collection_id", BigInteger, primary_key=True, autoincrement=False),
    Column("object_id", BigInteger, primary_key=True, autoincrement=False),  # 0: of the collection itself
    Column("name", Text, primary_key=True, info=personal("user", "{namespace}name")),
    Column("size", BigInteger, nullable=False),  # octets of name and value: what the quota counts
    Column("value", LargeBinary, nullable=False, info=personal("user", "the element as XML", sealed=True)),
    info=technical("properties that clients keep here (RFC 4918 §4)", of=classes.COLLECTIONS),
    sqlite_with_rowid=False,
)

dav_lock = Table(
    "dav_lock",
    metadata,
    _account(),
    Column("token", Text, primary_key=True),  # urn:uuid:…
    Column("collection_id", BigInteger, nullable=False),
    Column("object_id", BigInteger, nullable=False),  # 0: the collection itself
    Column("shared", Boolean, nullable=False),
    Column("deep", Boolean, nullable=False),  # Depth: infinity
    Column("holder", BigInteger, nullable=False),  # account id of who holds it
    Column(
        "owner",
        LargeBinary,
        nullable=False,
        info=personal("user", "DAV:owner, as its client says", sealed=True, of=classes.COLLECTIONS),
    ),
    Column("expires", BigInteger, nullable=False),  # Unix seconds
    info=technical("locks of WebDAV (RFC 4918 §6)", of=classes.ACCOUNT_STATE),
    sqlite_with_rowid=False,
)
Index("dav_lock_by_object", dav_lock.c.account_id, dav_lock.c.collection_id, dav_lock.c.object_id)

# Files below objects/ to remove after the commit that dropped them.
object_unlink = Table(
    "object_unlink",
    metadata,
    _account(),
    Column("file", Text, primary_key=True),
    info=technical("files of objects that no row names any more", of=classes.ACCOUNT_STATE),
    sqlite_with_rowid=False,
)

# One note, two faces: a VJOURNAL object and a message in the mailbox Notes, changed in one transaction.
note = Table(
    "note",
    metadata,
    _account(),
    Column("note_id", BigInteger, primary_key=True, autoincrement=False),  # counter "note_id"
    Column("uid", Text, nullable=False, info=personal("user", "UID of the journal entry")),
    Column("identifier", Text, nullable=False, info=personal("user", "X-Universally-Unique-Identifier")),
    Column("revision", BigInteger, nullable=False),  # rises with each change …
    Column("journal_revision", BigInteger, nullable=False),  # … and both faces come to it in the same commit
    Column("message_revision", BigInteger, nullable=False),
    Column("collection_id", BigInteger, nullable=True),
    Column("object_id", BigInteger, nullable=True),  # in that collection; None: it is still to be made, or it is gone
    Column("mailbox_id", BigInteger, nullable=True),
    Column("message_uid", BigInteger, nullable=True),  # in that mailbox; None: likewise
    Column("title", Text, nullable=False, info=personal("user", "first line", sealed=True)),
    Column("text", LargeBinary, nullable=False, info=personal("user", "zstd of the text", sealed=True)),
    Column("html", LargeBinary, nullable=True, info=personal("user", "zstd of the formatted text", sealed=True)),
    Column("created", BigInteger, nullable=False),  # Unix seconds
    Column("modified", BigInteger, nullable=False),
    # Set when its message went and no other has come: for a few minutes, since some clients remove before they append.
    Column("gone", BigInteger, nullable=True),  # Unix seconds
    Column("last_name", Text, nullable=True, info=personal("user", "last segment of its path")),
    Column("last_journal", LargeBinary, nullable=True, info=personal("user", "zstd of the octets", sealed=True)),
    info=technical("notes", of=classes.COLLECTIONS),
    sqlite_with_rowid=False,
)
Index("note_by_uid", note.c.account_id, note.c.uid, unique=True)
Index("note_by_identifier", note.c.account_id, note.c.identifier, unique=True)
Index("note_by_object", note.c.account_id, note.c.object_id)
Index("note_by_message", note.c.account_id, note.c.mailbox_id, note.c.message_uid)
Index("note_by_gone", note.c.account_id, note.c.gone, sqlite_where=note.c.gone.is_not(None))

# Messages of earlier revisions that still stand beside the current one: their client removes them, or they conflict.
note_earlier = Table(
    "note_earlier",
    metadata,
    _account(),
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("message_uid", BigInteger, primary_key=True, autoincrement=False),
    Column("note_id", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),  # Unix seconds
    info=technical("messages of earlier revisions of notes", of=classes.COLLECTIONS),
    sqlite_with_rowid=False,
)

# iTIP messages that a change has caused and that are still to be brought to somebody (RFC 6638 §3.2).
scheduling = Table(
    "scheduling",
    metadata,
    _account(),
    Column("scheduling_id", BigInteger, primary_key=True, autoincrement=False),  # counter "scheduling_id"
    Column("collection_id", BigInteger, nullable=False),
    Column("object_id", BigInteger, nullable=False),  # where SCHEDULE-STATUS goes; 0: it is gone
    Column("method", Text, nullable=False),  # REQUEST, REPLY, CANCEL …
    Column("recipient", Text, nullable=False, info=personal("correspondent", "who is invited or answered")),
    Column("data", LargeBinary, nullable=False, info=personal("correspondent", "zstd of the iTIP", sealed=True)),
    Column("created", BigInteger, nullable=False),
    Column("due", BigInteger, nullable=False),  # Unix seconds of the next attempt
    Column("attempts", Integer, nullable=False),
    Column("queue_id", Text, nullable=True),  # held in the mail queue under it, until this row goes; None: not yet
    info=technical("scheduling messages under way", of=classes.SCHEDULING),
    sqlite_with_rowid=False,
)
Index("scheduling_by_due", scheduling.c.account_id, scheduling.c.due)

# Which scheduling messages were worked on, so that none counts twice and an old one does not undo a newer.
scheduled = Table(
    "scheduled",
    metadata,
    _account(),
    Column("key", LargeBinary, primary_key=True),  # HMAC of method class, UID, RECURRENCE-ID and sender
    Column("sequence", BigInteger, nullable=False),
    Column("stamp", BigInteger, nullable=False),  # DTSTAMP
    Column("seen", BigInteger, nullable=False),  # Unix seconds
    info=technical("scheduling messages that were worked on", of=classes.SCHEDULING),
    sqlite_with_rowid=False,
)
Index("scheduled_by_age", scheduled.c.account_id, scheduled.c.seen)

# Calendars elsewhere that are fetched again and again into a collection of source "feed".
feed = Table(
    "feed",
    metadata,
    _account(),
    Column("collection_id", BigInteger, primary_key=True, autoincrement=False),
    Column("url", LargeBinary, nullable=False, info=personal("user", "where it comes from", sealed=True)),
    Column("every", Integer, nullable=False),  # seconds
    Column("due", BigInteger, nullable=False),
    Column("fetched", BigInteger, nullable=True),  # when it was last found whole
    Column("validators", Text, nullable=False),  # ETag and Last-Modified of the answer, as JSON
    Column("failures", Integer, nullable=False),  # in a row
    Column("problem", Text, nullable=False),  # of the last attempt, in a sentence; empty: none
    info=technical("subscriptions to calendars elsewhere", of=classes.COLLECTIONS),
    sqlite_with_rowid=False,
)
Index("feed_by_due", feed.c.account_id, feed.c.due)

TABLES = (
    collection,
    object_,
    object_data,
    object_time,
    object_gone,
    property_,
    dav_lock,
    object_unlink,
    note,
    note_earlier,
    scheduling,
    scheduled,
    feed,
)
