"""Tables of account.db: one mailbox owner's mailboxes, messages and search index, under the account's own key.

`membership` is narrow on purpose (flags, UIDs and modseqs of 200,000 messages are read in one go); what reads need of a
message stands in `content`, parsed once at delivery. Counters in `mailbox` change in the same transaction as what they
count.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from storage.register import classes
from storage.schema import personal, technical

VERSION = 7

metadata = MetaData()


def _account() -> Column[int]:
    return Column("account_id", BigInteger, primary_key=True, autoincrement=False)


info = Table(
    "info",
    metadata,
    _account(),
    Column("name", Text, primary_key=True),  # boot_id, incarnation of the last writer, restored …
    Column("value", Text, nullable=False),
    info=technical("state of this database itself", of=classes.ACCOUNT_STATE),
    sqlite_with_rowid=False,
)

# Numbers that only rise and are never used again: mailbox_id, message_id, uidvalidity, keyword …
counter = Table(
    "counter",
    metadata,
    _account(),
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
    info=technical("persistent counters", of=classes.ACCOUNT_STATE),
    sqlite_with_rowid=False,
)

usage = Table(
    "usage",
    metadata,
    _account(),
    Column("bytes", BigInteger, nullable=False),  # sum of RFC 822 sizes, once per membership
    Column("messages", BigInteger, nullable=False),  # memberships
    info=technical("quota: charged in the inserting transaction (RFC 9208)", of=classes.ACCOUNT_STATE),
    sqlite_with_rowid=False,
)

mailbox = Table(
    "mailbox",
    metadata,
    _account(),
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, info=personal("user", "folder name, chosen by the user")),
    Column("uidvalidity", BigInteger, nullable=False),
    Column("uidnext", BigInteger, nullable=False),
    Column("highest_modseq", BigInteger, nullable=False),
    # Modseqs up to here may be issued by commits that a power loss can undo; see storage.mail.modseq.
    Column("reserved_modseq", BigInteger, nullable=False),
    Column("expunged_horizon", BigInteger, nullable=False),  # tombstones at or below this modseq are gone
    Column("messages", BigInteger, nullable=False),
    Column("unseen", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("recent_uid", BigInteger, nullable=False),  # UIDs from here on are \Recent to the next writer of SELECT
    Column("special_use", Text, nullable=False),  # space-separated attributes, e.g. "\\Sent" (RFC 6154)
    Column("created", BigInteger, nullable=False),  # Unix seconds
    Column("keep_days", Integer, nullable=False, server_default="0"),  # until messages go; 0: they stay
    Column("read_only", Integer, nullable=False, server_default="0"),  # 1: the server writes, its owner reads
    Column("flag_changes", Text, nullable=False, server_default=""),  # the last ones; see storage.mail.flag_changes
    Column("flag_horizon", BigInteger, nullable=False, server_default="0"),  # what changed up to this modseq is unknown
    info=technical("IMAP mailboxes with their counters (RFC 9051 §2.3.1, RFC 7162)", of=classes.MAIL),
    sqlite_with_rowid=False,
)
Index("mailbox_by_name", mailbox.c.account_id, mailbox.c.name, unique=True)

# Subscriptions are names, not mailboxes: a deleted mailbox may stay subscribed (RFC 9051 §6.3.7).
subscription = Table(
    "subscription",
    metadata,
    _account(),
    Column("name", Text, primary_key=True, info=personal("user", "folders shown by clients")),
    info=technical("subscribed mailbox names", of=classes.MAIL),
    sqlite_with_rowid=False,
)

keyword = Table(
    "keyword",
    metadata,
    _account(),
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("bit", Integer, primary_key=True, autoincrement=False),  # 8..61 of membership.flags
    Column("name", Text, nullable=False, info=personal("user", "tag, chosen by the user")),
    info=technical("keywords of a mailbox as bits (RFC 9051 §2.3.2)", of=classes.MAIL),
    sqlite_with_rowid=False,
)

membership = Table(
    "membership",
    metadata,
    _account(),
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", BigInteger, nullable=False),
    Column("flags", BigInteger, nullable=False),
    Column("modseq", BigInteger, nullable=False),
    Column("saved", BigInteger, nullable=False),  # Unix seconds: SAVEDATE (RFC 8514)
    info=technical("which message stands in which mailbox under which UID", of=classes.MAIL),
    sqlite_with_rowid=False,
)
Index("membership_by_message", membership.c.account_id, membership.c.message_id)

expunged = Table(
    "expunged",
    metadata,
    _account(),
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("modseq", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    info=technical("tombstones for QRESYNC (RFC 7162 §3.2)", of=classes.ACCOUNT_STATE),
    sqlite_with_rowid=False,
)

# An index of memberships by modseq would say the same, and be two more pages of each commit.
flag_change = Table(
    "flag_change",
    metadata,
    _account(),
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("modseq", BigInteger, primary_key=True, autoincrement=False),  # of the last change in it
    Column("changes", Text, nullable=False),  # MODSEQ=UIDS; of each, UIDs as IMAP writes a set
    info=technical("which messages got other flags, for views that are behind", of=classes.ACCOUNT_STATE),
    sqlite_with_rowid=False,
)

snapshot = Table(
    "snapshot",
    metadata,
    _account(),
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("modseq", BigInteger, nullable=False),
    Column("rows", LargeBinary, nullable=False),  # packed uids, flags, modseqs; see storage.mail.snapshots
    Column("columns", LargeBinary, nullable=True),  # packed message ids, sizes and dates of the same messages
    info=technical("packed (uid, flags, modseq) of a mailbox, so that a cold view is one read", of=classes.MAIL),
)

message = Table(
    "message",
    metadata,
    _account(),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column("file", Text, nullable=False),  # base name in Maildir/
    Column("size", BigInteger, nullable=False),  # RFC 822 size in octets, CRLF, with the added header prefix
    Column("internal_date", BigInteger, nullable=False),  # Unix seconds
    Column("internal_zone", Integer, nullable=False, server_default="0"),  # minutes east of UTC that APPEND came with
    Column("sent_date", BigInteger, nullable=False),  # Date field as Unix seconds, else internal_date (RFC 5256 §2.2)
    Column("email_id", Text, nullable=False),  # RFC 8474
    Column("thread_id", Text, nullable=False),  # RFC 8474; "": nobody has read it yet (storage.mail.completion)
    Column("delivery_id", Text, nullable=True),  # "queue id" of a delivery that may be retried: exactly once
    Column("indexed", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
    info=technical("one stored message file", of=classes.MAIL),
    sqlite_with_rowid=False,
)
# What only PostgreSQL would read (postgresql_where) loads its whole dialect: a fifteenth of each process's start, 2 MB.
Index(
    "message_by_delivery",
    message.c.account_id,
    message.c.delivery_id,
    unique=True,
    sqlite_where=message.c.delivery_id.is_not(None),
)
Index("message_by_indexed", message.c.account_id, message.c.indexed, sqlite_where=message.c.indexed.is_(False))

# What reads need of a message, parsed once at delivery, in four tables by who reads it: a scan over 10,000 messages
# costs what the rows are wide. They have rowids on purpose: without, SQLite moves all but 1,000 octets of a row
# elsewhere. There, where a database has one account, the rowid is the message id: no index stands beside the rows.
_ROWID = {"rowid": "message_id"}


def _message() -> Column[int]:
    return Column("message_id", BigInteger, primary_key=True, autoincrement=False)


# Who stands in a mailbox, with the message that it is.
with_message = membership.join(
    message, (message.c.account_id == membership.c.account_id) & (message.c.message_id == membership.c.message_id)
)

# SEARCH, SORT and THREAD, decoded and casemapped (RFC 5256 §2.1, RFC 5255 i;unicode-casemap); and where the parts are.
content = Table(
    "content",
    metadata,
    _account(),
    _message(),
    Column(
        "parts", LargeBinary, nullable=False, info=personal("correspondent", "byte spans of the parts", sealed=True)
    ),
    Column("header_end", BigInteger, nullable=False),  # octets of the header with its blank line
    Column("subject", Text, nullable=False, info=personal("correspondent", "search and sort", sealed=True)),
    Column("base_subject", Text, nullable=False, info=personal("correspondent", "search and sort", sealed=True)),
    Column("from_", Text, nullable=False, info=personal("correspondent", "search and sort", sealed=True)),
    Column("to_", Text, nullable=False, info=personal("correspondent", "search and sort", sealed=True)),
    Column("cc", Text, nullable=False, info=personal("correspondent", "search and sort", sealed=True)),
    Column("bcc", Text, nullable=False, info=personal("correspondent", "search and sort", sealed=True)),
    Column("sort_from", Text, nullable=False, info=personal("correspondent", "search and sort", sealed=True)),
    Column("sort_to", Text, nullable=False, info=personal("correspondent", "search and sort", sealed=True)),
    Column("sort_cc", Text, nullable=False, info=personal("correspondent", "search and sort", sealed=True)),
    Column("reply_or_forward", Boolean, nullable=False),  # the base subject lost a Re: or Fwd: (RFC 5256 §2.1)
    Column("message_id_field", Text, nullable=False, info=personal("correspondent", "threading", sealed=True)),
    Column(
        "references", Text, nullable=False, info=personal("correspondent", "threading", sealed=True)
    ),  # space-separated
    Column("preview", Text, nullable=False, info=personal("correspondent", "PREVIEW (RFC 8970)", sealed=True)),
    info=technical("what searching, sorting and threading read of a message", of=classes.MAIL) | _ROWID,
)

# ENVELOPE and BODYSTRUCTURE as RFC 9051 §7.5.2 writes them: what 99 of 100 reads send as it is.
rendered = Table(
    "rendered",
    metadata,
    _account(),
    _message(),
    Column("envelope", LargeBinary, nullable=False, info=personal("correspondent", "envelope", sealed=True)),
    Column("body_structure", LargeBinary, nullable=False, info=personal("correspondent", "structure", sealed=True)),
    info=technical("answers to FETCH that are kept as they are sent", of=classes.MAIL) | _ROWID,
)

# The raw fields that mail clients list folders with (storage.mime.fields.LISTED), in message order …
listing = Table(
    "listing",
    metadata,
    _account(),
    _message(),
    Column(
        "listed", LargeBinary, nullable=False, info=personal("correspondent", "header fields for lists", sealed=True)
    ),
    info=technical("header fields that clients list a mailbox with", of=classes.MAIL) | _ROWID,
)

# … and the Received fields apart, since clients differ about them and they are the longest; with what we added.
trace_fields = Table(
    "trace_fields",
    metadata,
    _account(),
    _message(),
    Column(
        "prefix", LargeBinary, nullable=False, info=personal("correspondent", "header fields added by us", sealed=True)
    ),
    Column("received", LargeBinary, nullable=False, info=personal("correspondent", "trace fields", sealed=True)),
    Column("received_first", Boolean, nullable=False),  # every Received stands before every listed field
    info=technical("trace fields of a message (RFC 5321 §4.4)", of=classes.MAIL) | _ROWID,
)

# THREADID (RFC 8474): keyed hashes of message ids, so that no content stands in an index.
thread_reference = Table(
    "thread_reference",
    metadata,
    _account(),
    Column("reference", LargeBinary, primary_key=True),  # HMAC of a message id under the account's key
    Column("thread_id", Text, nullable=False),
    info=technical("finds the thread of a new message by its references", of=classes.MAIL),
    sqlite_with_rowid=False,
)

# Files to remove after the commit that dropped their last membership.
unlink = Table(
    "unlink",
    metadata,
    _account(),
    Column("file", Text, primary_key=True),
    info=technical("message files that no row names any more", of=classes.ACCOUNT_STATE),
    sqlite_with_rowid=False,
)

# What BODY, TEXT and HEADER searches verify candidates against: decoded, casemapped; one row is read instead of a file.
search_text = Table(
    "search_text",
    metadata,
    _account(),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),  # storage.mail.trigrams.Part: 0 header, 1 body
    Column("text", LargeBinary, nullable=False, info=personal("correspondent", "search in the text", sealed=True)),
    info=technical("zstd of the searchable text of a message (RFC 9051 §6.4.4)", of=classes.SEARCH_INDEX),
)

# The same, across messages: what 4,096 neighbours say in a field that many of them have, and what threads are made of.
# Whoever asks for that of a whole mailbox reads some rows instead of each message's; storage.mail.field_columns.
field_column = Table(
    "field_column",
    metadata,
    _account(),
    Column("name", Text, primary_key=True, info=personal("correspondent", "name of a header field")),  # "": of threads
    Column("span", BigInteger, primary_key=True, autoincrement=False),  # message ids from here times 4,096 on
    Column("packed", LargeBinary, nullable=False, info=personal("correspondent", "search and threads", sealed=True)),
    info=technical("header fields of neighbouring messages, side by side", of=classes.SEARCH_INDEX),
)

# Deleted messages whose searchable text and trigrams are still to be removed; filled by the trigger below.
forgotten = Table(
    "forgotten",
    metadata,
    _account(),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    info=technical("message ids that the search index has to forget", of=classes.ACCOUNT_STATE),
    sqlite_with_rowid=False,
)

# Messages that the owner called spam, or not spam, and that the filter has still to learn from.
opinion = Table(
    "opinion",
    metadata,
    _account(),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column("spam", Boolean, nullable=True),  # None: takes back what was said before
    Column("given", BigInteger, nullable=False),  # Unix seconds
    info=technical("opinions that the filter will learn from", of=classes.OPINIONS),
    sqlite_with_rowid=False,
)

# Mail that moves in from another server: which of its folders and messages are here already (storage.mail.moving).
moving = Table(
    "moving",
    metadata,
    _account(),
    Column("folder_id", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False, info=personal("user", "login and name of the other server")),
    Column("folder", Text, nullable=False, info=personal("user", "folder name there, as LIST writes it")),
    Column("uidvalidity", BigInteger, nullable=False),
    Column("highest_modseq", BigInteger, nullable=False),  # flags were compared up to here; 0: the server has none
    Column("mailbox_id", BigInteger, nullable=False),
    info=technical("folders of another server that move in", of=classes.MOVING),
    sqlite_with_rowid=False,
)
Index("moving_by_folder", moving.c.account_id, moving.c.source, moving.c.folder, unique=True)

# What clients keep beside a mailbox or the account (RFC 5464). Shared values lie with the mailbox; private ones with
# whoever wrote them, also of a mailbox in another account: they end with him, and the owner's key does not open them.
annotation = Table(
    "annotation",
    metadata,
    _account(),
    Column("owner_id", BigInteger, primary_key=True, autoincrement=False),  # whose mailbox it is, another account's too
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),  # 0: the server, as this account sees it
    Column("entry", Text, primary_key=True, info=personal("user", "name, chosen by a mail client")),  # lower case
    Column("value", LargeBinary, nullable=False, info=personal("user", "what clients keep there", sealed=True)),
    Column("octets", BigInteger, nullable=False),  # of the value
    Column("serial", BigInteger, nullable=False),  # rises with every change of any annotation of the account
    info=technical("annotations of mailboxes (RFC 5464)", of=classes.MAIL),
    sqlite_with_rowid=False,
)

moved = Table(
    "moved",
    metadata,
    _account(),
    Column("folder_id", BigInteger, primary_key=True, autoincrement=False),
    Column("uidvalidity", BigInteger, primary_key=True, autoincrement=False),  # there, and so is:
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False, info=personal("user", "hash of the octets", sealed=True)),
    Column("flags", BigInteger, nullable=False),  # system flags there, when they were last seen, and so are:
    Column("keywords", Text, nullable=False, info=personal("user", "tags there, space-separated")),
    info=technical("messages that moved in from another server", of=classes.MOVING),
    sqlite_with_rowid=False,
)
Index("moved_by_digest", moved.c.account_id, moved.c.digest)

# The search index of SQLite (storage.mail.trigrams): two FTS5 tables of trigrams over text that we casemap ourselves,
# without the text itself, rows deletable. Of the short fields the positions are kept, so that a match needs no second
# look. Merges are ours: FTS5's own would run inside a commit and hold the write lock for 100 ms.
EXTRA_SQL: tuple[str, ...] = (
    "CREATE VIRTUAL TABLE search_fields USING fts5(subject, from_, to_, cc, bcc,"
    " tokenize='trigram case_sensitive 1', content='', contentless_delete=1, detail=full)",
    "CREATE VIRTUAL TABLE search_parts USING fts5(text,"
    " tokenize='trigram case_sensitive 1', content='', contentless_delete=1, detail=none)",
    "INSERT INTO search_fields(search_fields, rank) VALUES ('automerge', 0), ('crisismerge', 200), ('usermerge', 4)",
    "INSERT INTO search_parts(search_parts, rank) VALUES ('automerge', 0), ('crisismerge', 200), ('usermerge', 4)",
    # Whoever deletes a message cannot forget the index. Removing its text here would make EXPUNGE ten times slower.
    "CREATE TRIGGER message_deleted AFTER DELETE ON message WHEN old.indexed BEGIN"
    " INSERT OR IGNORE INTO forgotten (account_id, message_id) VALUES (old.account_id, old.message_id); END",
)
