"""Scheduling messages of one account: those that are under way, and which ones were worked on.

What a change causes is written in the transaction of the change (`add`), so neither is there without the other. Whoever
brings a message somewhere claims it first for a while; what a crash leaves is claimed by another when that is over.
Whether a message counts is asked in the transaction that applies it (`accept`, `once`, `count_of_day`): none counts
twice, and an old one does not undo a newer. Only keyed hashes of what messages are about are kept.

Raises: StorageFull, Unavailable, Corrupt.
Standards: RFC 6638 §3.2; RFC 5546 §2.1.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import zstandard
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.clock import Clock
from storage.collections.values import CollectionId, Kind, ObjectId
from storage.database.database import Connection, Database, Transaction
from storage.database.prepared import Row, prepare
from storage.errors import Corrupt
from storage.itip.messages import Outgoing
from storage.itip.received import newer
from storage.keys.sealing import derive, keyed_hash
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox
from storage.schema.account import counter, info, membership, message, rendered, with_message
from storage.schema.collections import collection, scheduled, scheduling
from storage.values import AccountId, MessageId

DAY = 86_400
CLAIM = 300  # seconds that who claimed a message has for it
KEPT_DAYS = 400  # that it is known which messages were worked on
MESSAGE_MAX = 16 << 20  # octets of one message
_COUNTER = "scheduling_id"
_UPTO = "invitations.looked_at"  # in table info: the last message of the mailbox that was looked at
_FROM = "invitations.from"  # in table info: `Trust`

_mine = scheduling.c.account_id == bindparam("account")
_this = (_mine, scheduling.c.scheduling_id == bindparam("id"))
_INSERT_COUNTER = prepare(
    upsert(counter).values(account_id=bindparam("account"), name=_COUNTER, value=0).on_conflict_do_nothing()
)
_NEXT = prepare(
    update(counter)
    .where(counter.c.account_id == bindparam("account"), counter.c.name == _COUNTER)
    .values(value=counter.c.value + 1)
    .returning(counter.c.value)
)
_ADD = prepare(insert(scheduling))
_DUE = prepare(
    select(
        scheduling.c.scheduling_id,
        scheduling.c.collection_id,
        scheduling.c.object_id,
        scheduling.c.method,
        scheduling.c.recipient,
        scheduling.c.data,
        scheduling.c.created,
        scheduling.c.due,
        scheduling.c.attempts,
        scheduling.c.queue_id,
    )
    .where(_mine, scheduling.c.due <= bindparam("now"))
    .order_by(scheduling.c.scheduling_id)
    .limit(bindparam("most"))
)
_CLAIM = prepare(
    update(scheduling)
    .where(*_this, scheduling.c.due == bindparam("was"))
    .values(due=bindparam("until"), attempts=scheduling.c.attempts + 1)
)
_QUEUED = prepare(update(scheduling).where(*_this).values(queue_id=bindparam("queue")))
_POSTPONE = prepare(update(scheduling).where(*_this).values(due=bindparam("again")))
_DONE = prepare(delete(scheduling).where(*_this))
_COUNT = prepare(select(func.count()).select_from(scheduling).where(_mine))

_KNOWN = prepare(
    select(scheduled.c.sequence, scheduled.c.stamp).where(
        scheduled.c.account_id == bindparam("account"), scheduled.c.key == bindparam("key")
    )
)
_put_known = upsert(scheduled)
_PUT_KNOWN = prepare(
    _put_known.on_conflict_do_update(
        index_elements=[scheduled.c.account_id, scheduled.c.key],
        set_={name: _put_known.excluded[name] for name in ("sequence", "stamp", "seen")},
    )
)
_EXPIRE = prepare(
    delete(scheduled).where(scheduled.c.account_id == bindparam("account"), scheduled.c.seen < bindparam("before"))
)
_HAS_OLD = prepare(
    select(scheduled.c.key)
    .where(scheduled.c.account_id == bindparam("account"), scheduled.c.seen < bindparam("before"))
    .limit(1)
)
_READ = prepare(
    select(info.c.value).where(info.c.account_id == bindparam("account"), info.c.name == bindparam("called"))
)
_put_info = upsert(info)
_WRITE = prepare(
    _put_info.on_conflict_do_update(
        index_elements=[info.c.account_id, info.c.name], set_={"value": _put_info.excluded["value"]}
    )
)
_ARRIVED = prepare(
    select(membership.c.message_id, rendered.c.body_structure)
    .select_from(
        membership.join(
            rendered,
            (rendered.c.account_id == membership.c.account_id) & (rendered.c.message_id == membership.c.message_id),
        )
    )
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.uid >= bindparam("first"),
        membership.c.uid < bindparam("next"),
    )
    .order_by(membership.c.uid)
)
_calendars_since = select(func.min(collection.c.created)).where(
    collection.c.account_id == bindparam("account"), collection.c.kind == Kind.INBOX
)
_FIRST = prepare(
    select(func.min(membership.c.uid))
    .select_from(with_message)
    .where(
        membership.c.account_id == bindparam("account"),
        membership.c.mailbox_id == bindparam("mailbox"),
        message.c.internal_date >= _calendars_since.scalar_subquery(),
    )
)


class Trust(StrEnum):
    """By whose invitations that come by mail something new gets into the calendar."""

    KNOWN = "known"  # those whom the account has written to, and its tenant
    EVERYBODY = "everybody"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message under way."""

    id: int
    collection_id: CollectionId
    object_id: ObjectId  # where its status goes; 0: nowhere
    method: str
    recipient: str = field(repr=False)
    data: bytes = field(repr=False)
    created: int  # Unix seconds
    due: int
    attempts: int = 0
    queue_id: str | None = None  # under which it is held in the mail queue


@dataclass(frozen=True, slots=True)
class About:
    """What a message is about: messages about the same follow each other."""

    role: str  # "organizer" or "attendee": of who sent it
    uid: str = field(repr=False)
    instances: str = field(repr=False)  # RECURRENCE-IDs; empty: all of it
    sender: str = field(repr=False)


class Scheduling:
    """Of one account that is open."""

    def __init__(self, account: Account, clock: Clock) -> None:
        self._database: Database = account.database
        self._account_id: AccountId = account.account_id
        self._key = derive(account.key.secret, "scheduling", "worked on")
        self._complete = account.completion.ensure
        self._clock = clock

    # Under way

    def add(
        self,
        transaction: Transaction,
        collection_id: CollectionId,
        object_id: ObjectId,
        messages: Iterable[Outgoing],
        claimed: int = 1 << 30,
    ) -> list[Waiting]:
        """Write them down; so many of them, which are returned, claimed by who calls for a while."""
        _INSERT_COUNTER.run(transaction, account=self._account_id)
        now = self._clock.now()
        added: list[Waiting] = []
        for each in messages:
            [[number]] = _NEXT.rows(transaction, account=self._account_id)
            waiting = Waiting(
                number,
                collection_id,
                object_id,
                each.method,
                each.recipient,
                each.data,
                now,
                now + CLAIM if len(added) < claimed else now,
            )
            _ADD.run(
                transaction,
                account_id=self._account_id,
                scheduling_id=waiting.id,
                collection_id=collection_id,
                object_id=object_id,
                method=waiting.method,
                recipient=waiting.recipient,
                data=zstandard.ZstdCompressor(level=3).compress(waiting.data),
                created=now,
                due=waiting.due,
                attempts=0,
                queue_id=None,
            )
            added.append(waiting)
        return added[:claimed]

    def due(self, most: int) -> list[Waiting]:
        """The oldest that nobody has claimed."""
        with self._database.reading() as connection:
            rows = _DUE.rows(connection, account=self._account_id, now=self._clock.now(), most=most)
        return [_waiting(row) for row in rows]

    def claim(self, waiting: Waiting) -> bool:
        """False: somebody else has it."""
        until = self._clock.now() + CLAIM

        def work(transaction: Transaction) -> bool:
            return bool(_CLAIM.run(transaction, account=self._account_id, id=waiting.id, was=waiting.due, until=until))

        return self._database.write(work)

    def queued(self, waiting: Waiting, queue_id: str) -> None:
        """It is held in the mail queue: it may leave there once this is durable."""
        self._database.write(
            lambda transaction: _QUEUED.run(transaction, account=self._account_id, id=waiting.id, queue=queue_id)
        )

    def postpone(self, waiting: Waiting, again: int) -> None:
        self._database.write(
            lambda transaction: _POSTPONE.run(transaction, account=self._account_id, id=waiting.id, again=again)
        )

    def done(self, waiting: Sequence[Waiting]) -> None:
        """They are where they belong, or never will be."""

        def work(transaction: Transaction) -> None:
            for each in waiting:
                _DONE.run(transaction, account=self._account_id, id=each.id)

        if waiting:
            self._database.write(work)

    def count(self) -> int:
        """How many are under way."""
        with self._database.reading() as connection:
            return int(_COUNT.rows(connection, account=self._account_id)[0][0])

    # Worked on

    def once(self, transaction: Transaction, *what: str | int) -> bool:
        """True the first time."""
        key = self._hash("once", *what)
        if _KNOWN.one(transaction, account=self._account_id, key=key) is not None:
            return False
        self._put(transaction, key, 0, 0)
        return True

    def accept(self, transaction: Transaction, about: About, sequence: int, stamp: int, *, again: bool = False) -> bool:
        """Whether a message is newer than those before it about the same, and about all of it; then it counts.

        `again`: also if it equals the last one.
        """
        keys = [self._hash(about.role, about.uid, each, about.sender) for each in ("", about.instances)]
        for key in keys:
            row = _KNOWN.one(transaction, account=self._account_id, key=key)
            if not newer(sequence, stamp, None if row is None else (row[0], row[1]), again=again):
                return False
        self._put(transaction, keys[1], sequence, stamp)
        return True

    def note_cancelled(self, transaction: Transaction, uid: str, sequence: int) -> None:
        """The account's own meeting of this UID was called off with this SEQUENCE."""
        self._put(transaction, self._hash("cancelled", uid), sequence, 0)

    def cancelled(self, uid: str) -> int | None:
        """The SEQUENCE with which a meeting of this UID was called off; None if it was not."""
        with self._database.reading() as connection:
            row = _KNOWN.one(connection, account=self._account_id, key=self._hash("cancelled", uid))
        return None if row is None else int(row[0])

    def count_of_day(self, transaction: Transaction, sender: str) -> int:
        """Count one more message of a sender today; how many there are with it."""
        day = self._clock.now() // DAY
        key = self._hash("day", sender)
        row = _KNOWN.one(transaction, account=self._account_id, key=key)
        count = row[0] + 1 if row is not None and row[1] == day else 1
        self._put(transaction, key, count, day)
        return int(count)

    def remove_expired(self) -> int:
        """What was worked on so long ago that nobody sends it again; how many."""
        before = self._clock.now() - KEPT_DAYS * DAY
        with self._database.reading() as connection:
            if _HAS_OLD.one(connection, account=self._account_id, before=before) is None:
                return 0
        return self._database.write(
            lambda transaction: _EXPIRE.run(transaction, account=self._account_id, before=before), durable=False
        )

    def _put(self, transaction: Transaction, key: bytes, sequence: int, stamp: int) -> None:
        _PUT_KNOWN.run(
            transaction,
            account_id=self._account_id,
            key=key,
            sequence=sequence,
            stamp=stamp,
            seen=self._clock.now(),
        )

    def _hash(self, *what: str | int) -> bytes:
        return keyed_hash(self._key, "\0".join(str(each).replace("\0", "") for each in what).encode())

    # The mailbox

    def arrived(self, mailbox: Mailbox, most: int) -> tuple[list[MessageId], int | None]:
        """Messages in it that may be about meetings and that nobody has looked at, and from which UID on others follow.

        What was there before the account had calendars is left alone. None: there is no news.
        """
        scope = {"account": self._account_id, "mailbox": mailbox.id}
        self._complete()
        with self._database.reading() as connection:
            looked_at = self._value(connection, _UPTO)
            if looked_at is None:
                [[since]] = _FIRST.rows(connection, **scope)
                first = mailbox.uidnext if since is None else min(int(since), mailbox.uidnext)
            else:
                validity, _, following_text = looked_at.partition(" ")
                if validity != str(mailbox.uidvalidity):
                    return [], mailbox.uidnext
                first = int(following_text)
            if first >= mailbox.uidnext:
                return [], None if looked_at is not None else mailbox.uidnext
            following = min(mailbox.uidnext, first + most)
            rows = _ARRIVED.rows(connection, **scope, first=first, next=following)
        found = [MessageId(row[0]) for row in rows if any(each in bytes(row[1]).lower() for each in _LOOKED_FOR)]
        return found, following

    def look_from(self, mailbox: Mailbox, following: int) -> None:
        """All before this UID were looked at."""
        self._write(_UPTO, f"{mailbox.uidvalidity} {following}", durable=False)

    @property
    def trust(self) -> Trust:
        with self._database.reading() as connection:
            found = self._value(connection, _FROM)
        return Trust(found) if found in list(Trust) else Trust.KNOWN

    @trust.setter
    def trust(self, trust: Trust) -> None:
        self._write(_FROM, trust.value, durable=True)

    def _value(self, connection: Connection, name: str) -> str | None:
        row = _READ.one(connection, account=self._account_id, called=name)
        return None if row is None else str(row[0])

    def _write(self, name: str, value: str, *, durable: bool) -> None:
        def work(transaction: Transaction) -> None:
            _WRITE.run(transaction, account_id=self._account_id, name=name, value=value)

        self._database.write(work, durable=durable)


_LOOKED_FOR = (b'"calendar"', b'delivery-status"')  # as a body structure has the subtype


def _waiting(row: Row) -> Waiting:
    number, collection_id, object_id, method, recipient, data, *rest = row
    try:
        octets = zstandard.ZstdDecompressor().decompress(data, max_output_size=MESSAGE_MAX)
    except zstandard.ZstdError:
        raise Corrupt(detail=f"scheduling message {number} cannot be unpacked") from None
    return Waiting(number, collection_id, object_id, method, recipient, octets, *rest)
