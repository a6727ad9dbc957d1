"""Checks of an account's rows against each other: counters recomputed from membership, quota, UIDs, tombstones, index.

A check is data: a statement that selects what is wrong, and the sentence that says so. Each statement sees one state of
the database, even while others write. All narrow rows are read; that is for a command, not for a server at work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import text

from storage.checks.finding import Finding, Kind, Severity
from storage.database.prepared import Connection, Prepared, prepare
from storage.mail.ledger import LIVE
from storage.schema.account import content, listing, rendered, trace_fields
from storage.values import DELETED, FIRST_KEYWORD_BIT, KEYWORDS_PER_MAILBOX, SEEN, AccountId

_PLACES = frozenset(("mailbox_id", "message_id", "uid", "object_id", "file"))  # columns that say where, as Finding does


@dataclass(frozen=True, slots=True)
class Check:
    """A statement that selects what is wrong, and what its rows mean."""

    kind: Kind
    severity: Severity
    sentence: str
    columns: tuple[str, ...]
    sql: str


def _counter(name: str, counted: str) -> Check:
    """A counter of a mailbox against what its memberships make."""
    return Check(
        Kind.COUNTER_WRONG,
        Severity.ERROR,
        f"Mailbox {{mailbox_id}} counts {{stored}} {name}, its rows make {{counted}}.",
        ("mailbox_id", "stored", "counted"),
        f"""SELECT b.mailbox_id, b.{name}, coalesce(sum({counted}), 0) FROM mailbox b
            LEFT JOIN membership s ON s.account_id = b.account_id AND s.mailbox_id = b.mailbox_id
            LEFT JOIN message m ON m.account_id = s.account_id AND m.message_id = s.message_id
            WHERE b.account_id = :account_id AND b.name >= :live GROUP BY b.mailbox_id, b.{name}
            HAVING b.{name} <> coalesce(sum({counted}), 0)""",  # noqa: S608 - names of ours
    )


def highest(kind: Kind, of: str, table: str, column: str, counter: str) -> Check:
    """A persistent counter against the highest number that was given out."""
    return Check(
        kind,
        Severity.ALARM,
        f"The highest {of} is {{highest}}, but the counter stands at {{counter}}: numbers may be given out twice.",
        ("highest", "counter"),
        f"""SELECT max(t.{column}), coalesce(max(c.value), 0) FROM {table} t
            LEFT JOIN counter c ON c.account_id = t.account_id AND c.name = '{counter}'
            WHERE t.account_id = :account_id HAVING max(t.{column}) > coalesce(max(c.value), 0)""",  # noqa: S608
    )


def _content_missing(table: str) -> Check:
    return Check(
        Kind.CONTENT_MISSING,
        Severity.ALARM,
        f"Message {{message_id}} has no row in {table}: it cannot be shown whole.",
        ("message_id",),
        f"""SELECT m.message_id FROM message m WHERE m.account_id = :account_id AND m.thread_id <> '' AND NOT EXISTS
              (SELECT 1 FROM {table} t WHERE t.account_id = m.account_id AND t.message_id = m.message_id)""",  # noqa: S608
    )


def _content_loose(table: str) -> Check:
    return Check(
        Kind.CONTENT_LOOSE,
        Severity.ERROR,
        f"A row in {table} is left of message {{message_id}}, which is gone.",
        ("message_id",),
        f"""SELECT t.message_id FROM {table} t WHERE t.account_id = :account_id AND NOT EXISTS
              (SELECT 1 FROM message m WHERE m.account_id = t.account_id AND m.message_id = t.message_id)""",  # noqa: S608
    )


# What came by APPEND has no thread until it is read, a moment later (storage.mail.completion).
_INCOMPLETE = Check(
    Kind.CONTENT_MISSING,
    Severity.ALARM,
    "Message {message_id} was never read, and nobody will: it cannot be shown whole.",
    ("message_id",),
    """SELECT m.message_id FROM message m WHERE m.account_id = :account_id AND m.thread_id = '' AND
         (m.indexed OR NOT EXISTS (SELECT 1 FROM info i WHERE i.account_id = m.account_id
           AND i.name = 'incomplete_from' AND CAST(i.value AS INTEGER) <= m.message_id))""",
)
_CONTENT = (content.name, rendered.name, listing.name, trace_fields.name)
_ONE_IF = "CASE WHEN {} THEN 1 ELSE 0 END"
_KEYWORD_BITS = sum(1 << bit for bit in range(FIRST_KEYWORD_BIT, FIRST_KEYWORD_BIT + KEYWORDS_PER_MAILBOX))

_CHECKS = (
    Check(
        Kind.MEMBERSHIP_LOOSE,
        Severity.ALARM,
        "UID {uid} of mailbox {mailbox_id} is message {message_id}, which has no row.",
        ("mailbox_id", "uid", "message_id"),
        """SELECT s.mailbox_id, s.uid, s.message_id FROM membership s
           WHERE s.account_id = :account_id AND NOT EXISTS (SELECT 1 FROM message m
             WHERE m.account_id = s.account_id AND m.message_id = s.message_id)""",
    ),
    Check(
        Kind.MEMBERSHIP_LOOSE,
        Severity.ALARM,
        "{count} messages stand in mailbox {mailbox_id}, which has no row.",
        ("mailbox_id", "count"),
        """SELECT s.mailbox_id, count(*) FROM membership s
           WHERE s.account_id = :account_id AND NOT EXISTS (SELECT 1 FROM mailbox b
             WHERE b.account_id = s.account_id AND b.mailbox_id = s.mailbox_id) GROUP BY s.mailbox_id""",
    ),
    Check(
        Kind.MESSAGE_LOOSE,
        Severity.ERROR,
        "Message {message_id} stands in no mailbox.",
        ("message_id",),
        """SELECT m.message_id FROM message m WHERE m.account_id = :account_id AND NOT EXISTS
             (SELECT 1 FROM membership s WHERE s.account_id = m.account_id AND s.message_id = m.message_id)""",
    ),
    *(_content_missing(table) for table in _CONTENT),
    _INCOMPLETE,
    *(_content_loose(table) for table in _CONTENT),
    _counter("messages", _ONE_IF.format("s.uid IS NOT NULL")),
    _counter("unseen", _ONE_IF.format(f"s.flags & {SEEN} = 0")),
    _counter("deleted", _ONE_IF.format(f"s.flags & {DELETED} <> 0")),
    _counter("bytes", "m.size"),
    Check(
        Kind.USAGE_WRONG,
        Severity.ERROR,
        "The quota counts {messages} messages and {bytes} octets, the rows make {counted} and {summed}.",
        ("messages", "bytes", "counted", "summed"),
        """SELECT u.messages, u.bytes, m.counted, m.summed + o.summed + q.summed FROM usage u,
             (SELECT count(*) AS counted, coalesce(sum(m.size), 0) AS summed FROM membership s
                JOIN message m ON m.account_id = s.account_id AND m.message_id = s.message_id
                JOIN mailbox b ON b.account_id = s.account_id AND b.mailbox_id = s.mailbox_id AND b.name >= :live
                  AND b.read_only = 0
                WHERE s.account_id = :account_id) m,
             (SELECT coalesce(sum(c.bytes), 0) AS summed FROM collection c
                WHERE c.account_id = :account_id AND c.parent_id >= 0 AND c.source = '') o,
             (SELECT coalesce(sum(p.size), 0) AS summed FROM property p
                LEFT JOIN collection c ON c.account_id = p.account_id AND c.collection_id = p.collection_id
                WHERE p.account_id = :account_id AND coalesce(c.parent_id, 0) >= 0) q
           WHERE u.account_id = :account_id
             AND (u.messages <> m.counted OR u.bytes <> m.summed + o.summed + q.summed)""",
    ),
    Check(
        Kind.UID_BEYOND_NEXT,
        Severity.ALARM,
        "Mailbox {mailbox_id} has UID {uid}, but would give out {next} next.",
        ("mailbox_id", "uid", "next"),
        """SELECT b.mailbox_id, max(t.uid), b.uidnext FROM mailbox b JOIN
             (SELECT mailbox_id, uid FROM membership WHERE account_id = :account_id
              UNION ALL SELECT mailbox_id, uid FROM expunged WHERE account_id = :account_id) t
             ON t.mailbox_id = b.mailbox_id
           WHERE b.account_id = :account_id GROUP BY b.mailbox_id, b.uidnext HAVING max(t.uid) >= b.uidnext""",
    ),
    Check(
        Kind.MODSEQ_BEYOND_HIGHEST,
        Severity.ALARM,
        "Mailbox {mailbox_id} has modseq {found}, but says that {highest} is the highest.",
        ("mailbox_id", "found", "highest"),
        """SELECT b.mailbox_id, max(t.modseq), b.highest_modseq FROM mailbox b JOIN
             (SELECT mailbox_id, modseq FROM membership WHERE account_id = :account_id
              UNION ALL SELECT mailbox_id, modseq FROM expunged WHERE account_id = :account_id
              UNION ALL SELECT mailbox_id, expunged_horizon FROM mailbox WHERE account_id = :account_id) t
             ON t.mailbox_id = b.mailbox_id
           WHERE b.account_id = :account_id GROUP BY b.mailbox_id, b.highest_modseq
           HAVING max(t.modseq) > b.highest_modseq""",
    ),
    Check(
        Kind.TOMBSTONE_WRONG,
        Severity.ERROR,
        "UID {uid} of mailbox {mailbox_id} is there and counts as expunged too.",
        ("mailbox_id", "uid"),
        """SELECT e.mailbox_id, e.uid FROM expunged e JOIN membership s
             ON s.account_id = e.account_id AND s.mailbox_id = e.mailbox_id AND s.uid = e.uid
           WHERE e.account_id = :account_id""",
    ),
    highest(Kind.ID_BEYOND_COUNTER, "message id", "message", "message_id", "message_id"),
    highest(Kind.ID_BEYOND_COUNTER, "mailbox id", "mailbox", "mailbox_id", "mailbox_id"),
    highest(Kind.ID_BEYOND_COUNTER, "UIDVALIDITY", "mailbox", "uidvalidity", "uidvalidity"),
    Check(
        Kind.KEYWORD_UNNAMED,
        Severity.ERROR,
        "UID {uid} of mailbox {mailbox_id} has a keyword without a name.",
        ("mailbox_id", "uid"),
        f"""SELECT s.mailbox_id, s.uid FROM membership s LEFT JOIN
              (SELECT mailbox_id, sum(1 << bit) AS bits FROM keyword WHERE account_id = :account_id
               GROUP BY mailbox_id) k ON k.mailbox_id = s.mailbox_id
            WHERE s.account_id = :account_id AND s.flags & {_KEYWORD_BITS} & ~coalesce(k.bits, 0) <> 0""",  # noqa: S608
    ),
    Check(
        Kind.INDEX_WRONG,
        Severity.ERROR,
        "Message {message_id} counts as indexed, but its searchable text is missing.",
        ("message_id",),
        """SELECT m.message_id FROM message m WHERE m.account_id = :account_id AND m.indexed AND
             (SELECT count(*) FROM search_text t
              WHERE t.account_id = m.account_id AND t.message_id = m.message_id) <> 2""",
    ),
    Check(
        Kind.INDEX_WRONG,
        Severity.ERROR,
        "Searchable text is left of message {message_id}, which is gone.",
        ("message_id",),
        """SELECT DISTINCT t.message_id FROM search_text t WHERE t.account_id = :account_id AND NOT EXISTS
             (SELECT 1 FROM message m WHERE m.account_id = t.account_id AND m.message_id = t.message_id)
           AND NOT EXISTS
             (SELECT 1 FROM forgotten f WHERE f.account_id = t.account_id AND f.message_id = t.message_id)""",
    ),
)
_integrity = prepare(text("PRAGMA integrity_check(10)"))


def check_rows(connection: Connection, account_id: AccountId) -> Iterator[Finding]:
    """Everything that is wrong among the rows of an account's mail."""
    return findings(_PREPARED, connection, account_id)


def prepared(checks: Iterable[Check]) -> tuple[tuple[Check, Prepared], ...]:
    """Ready to be asked."""
    return tuple((check, prepare(text(check.sql))) for check in checks)


def findings(
    checks: Iterable[tuple[Check, Prepared]], connection: Connection, account_id: AccountId
) -> Iterator[Finding]:
    """What these checks find wrong."""
    for check, statement in checks:
        # What deleted mailboxes still hold is not counted: they are emptied in the background.
        living = {"live": LIVE} if ":live" in check.sql else {}
        for row in statement.rows(connection, account_id=account_id, **living):
            values = dict(zip(check.columns, row, strict=True))
            places = {name: value for name, value in values.items() if name in _PLACES}
            yield Finding(check.kind, check.severity, check.sentence.format(**values), **places)


_PREPARED = prepared(_CHECKS)


def check_structure(connection: Connection) -> Iterator[Finding]:
    """Whether the database itself is whole: every page decrypts and verifies, every index agrees with its table."""
    for (result,) in _integrity.rows(connection):
        if result != "ok":
            yield Finding(Kind.DATABASE_DAMAGED, Severity.ALARM, f"The account's database is damaged: {result}.")
